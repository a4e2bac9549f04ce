//! Everything in one process: API, worker, SQLite, an S3 server on loopback and a queue in memory, all
//! ended by one token. The parts are those of production; only what they connect to differs.

mod alone;
mod config;
mod credentials;
mod foundation;
mod local_s3;
pub mod s3;
pub mod store;

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use upflow_api::config::{ServeSettings, listen};
use upflow_core::config::{self as core_config, Faults};
use upflow_core::shutdown;

use crate::upload::words::say;

pub use alone::{S3Args, run as run_s3};
pub use config::{EmbeddedArgs, EmbeddedSettings, StoreArgs, StoreSettings};
pub use foundation::Foundation;

/// The bare command: starts everything, says what to open, and runs until Ctrl-C or SIGTERM.
pub async fn run(args: EmbeddedArgs) -> anyhow::Result<()> {
    let mut faults = Faults::default();
    let settings = args.check(&mut faults);
    let settings = faults.end(settings)?;
    let logging = core_config::init_logging(&settings.app, "upflow");
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone());

    let api = listen(settings.host, settings.port, "--port", "UPFLOW_PORT")?;
    let s3 = listen(settings.host, settings.store.port, "--s3-port", "UPFLOW_S3_PORT")?;
    let metrics = settings.metrics.listen()?;
    let address = api.local_addr()?;
    let foundation = Foundation::start_with(&settings.store, s3, settings.limits.clone()).await?;
    if let Some(metrics) = metrics {
        tokio::spawn(upflow_core::metrics::serve(foundation.ctx.clone(), metrics, stop.clone()));
    }
    let worker = upflow_worker::run(foundation.ctx.clone(), settings.worker, stop.clone());
    let open = ServeSettings::open(settings.clients);
    let serve = upflow_api::serve(foundation.ctx.clone(), open, api, stop.clone());
    if std::env::var_os("UPFLOW_API_KEYS").is_some_and(|keys| !keys.is_empty()) {
        tracing::warn!("UPFLOW_API_KEYS is for upflow-api: here no key is asked for");
    }
    say(&greeting(address, foundation.s3, &settings.store));
    // Whichever ends first ends the other.
    let serve = async {
        let served = serve.await;
        stop.cancel();
        served
    };
    let (served, ()) = tokio::join!(serve, worker);
    foundation.stop().await;
    logging.end().await;
    say("UpFlow has stopped.");
    Ok(served?)
}

fn greeting(api: SocketAddr, s3: SocketAddr, store: &StoreSettings) -> String {
    let command = std::env::args().next().unwrap_or_else(|| "upflow".to_owned());
    format!(
        "UpFlow {version} is running; its data is in {data}.\n\n  \
         Demo         http://{api}/\n  \
         Swagger UI   http://{api}/docs\n  \
         Upload       {command} upload FILE --server http://{api}\n  \
         S3           http://{s3}/{bucket}\n\n\
         It is open, without keys, to this machine alone.\n\
         Ctrl-C stops it; the next start goes on where it was.",
        version = env!("CARGO_PKG_VERSION"),
        data = store.data_dir.display(),
        bucket = store.bucket,
    )
}
