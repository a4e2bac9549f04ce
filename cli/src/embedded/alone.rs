//! `upflow s3`: the local S3 store without the rest, for tests and for people who want a small S3.

use std::net::Ipv4Addr;

use tokio_util::sync::CancellationToken;
use upflow_api::config::listen;
use upflow_core::config::{self as core_config, AppArgs, Faults};
use upflow_core::shutdown;

use super::config::{StoreArgs, StoreSettings};
use super::credentials;
use super::local_s3::LocalS3;
use crate::upload::words::say;

#[derive(Debug, clap::Args)]
pub struct S3Args {
    /// Print the keys too, with the other settings, as lines for a shell
    #[arg(long)]
    pub show_keys: bool,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub app: AppArgs,
}

/// Serves the store, says how it is reached, and runs until Ctrl-C or SIGTERM.
pub async fn run(args: S3Args) -> anyhow::Result<()> {
    let mut faults = Faults::default();
    let (store, app) = (args.store.check(&mut faults), args.app.check(&mut faults));
    let (settings, app) = faults.end(store.zip(app))?;
    let logging = core_config::init_logging(&app, "upflow-s3");
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone());

    let host = Ipv4Addr::LOCALHOST.into();
    let listener = listen(host, settings.port, "--s3-port", "UPFLOW_S3_PORT")?;
    let s3 = LocalS3::start(&settings, listener, stop.clone()).await?;
    say(&greeting(&settings, &s3, args.show_keys));
    stop.cancelled().await;
    s3.stopped().await;
    logging.end().await;
    say("The S3 store has stopped.");
    Ok(())
}

fn greeting(settings: &StoreSettings, s3: &LocalS3, show_keys: bool) -> String {
    let StoreSettings { data_dir, bucket, region, .. } = settings;
    let keys = match &settings.credentials {
        Some(_) => "those of UPFLOW_S3_ACCESS_KEY and UPFLOW_S3_SECRET_KEY".to_owned(),
        None => format!("in {}", credentials::path(data_dir).display()),
    };
    let shown = if show_keys {
        exports(settings, s3)
    } else {
        "--show-keys prints the keys, as lines for a shell.".to_owned()
    };
    format!(
        "The S3 store is running; its data is in {data}.\n\n  \
         Endpoint     http://{address}\n  \
         Bucket       {bucket}\n  \
         Region       {region}\n  \
         Keys         {keys}\n\n\
         {shown}\n\
         Buckets are addressed by path (endpoint/bucket/key), from this machine alone.\n\
         Ctrl-C stops it.",
        data = data_dir.display(),
        address = s3.address,
    )
}

/// What the AWS command line and SDKs read from the environment.
fn exports(settings: &StoreSettings, s3: &LocalS3) -> String {
    let line = |name: &str, value: &str| format!("export {name}={}\n", quoted(value));
    [
        line("AWS_ENDPOINT_URL_S3", &format!("http://{}", s3.address)),
        line("AWS_DEFAULT_REGION", &settings.region),
        line("AWS_ACCESS_KEY_ID", &s3.credentials.access_key),
        line("AWS_SECRET_ACCESS_KEY", &s3.credentials.secret_key),
    ]
    .concat()
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
