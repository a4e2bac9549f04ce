//! The local store for all tests, as there is one SeaweedFS for all of them: in a folder of its own, on a
//! thread of its own, since each test has a runtime that ends with it.

use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use upflow::embedded::s3::{Credentials, S3Server, S3Settings};
use upflow::embedded::store::Store;

pub const BUCKET: &str = "conformance";
pub const REGION: &str = "us-east-1";
pub const ACCESS_KEY: &str = "conformance-key";
pub const SECRET_KEY: &str = "conformance-secret";

static LOCAL: Mutex<Option<Local>> = Mutex::new(None);

struct Local {
    address: SocketAddr,
    stop: CancellationToken,
    thread: JoinHandle<()>,
    _folder: TempDir,
}

/// Where it serves; the first who asks starts it.
pub fn address() -> SocketAddr {
    LOCAL.lock().unwrap().get_or_insert_with(start).address
}

/// Ends it, if it was started, and removes its folder.
pub fn stop() {
    if let Some(local) = LOCAL.lock().unwrap().take() {
        local.stop.cancel();
        local.thread.join().unwrap();
    }
}

fn start() -> Local {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let stop = CancellationToken::new();
    let shutdown = stop.clone();
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = Store::open(&path).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let credentials =
                Credentials { access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into() };
            let (region, bucket) = (REGION.into(), BUCKET.into());
            let settings = S3Settings { credentials, region, bucket, any_origin: None };
            let server = S3Server::start(listener, store, settings, shutdown).await.unwrap();
            tell.send(server.address()).unwrap();
            server.stopped().await;
        });
    });
    Local { address: told.recv().unwrap(), stop, thread, _folder: folder }
}
