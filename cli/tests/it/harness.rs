//! A whole UpFlow for one test: its own database, queue and key prefix, an API on a free port, and as
//! many workers as the test wants. API and workers run in this process and can be stopped and started
//! one by one; `processes` runs the real programs instead.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use upflow::embedded::Foundation;
use upflow_api::config::ServeSettings;
use upflow_core::Context;
use upflow_core::config::{DatabaseSettings, StorageSettings};
use upflow_core::metrics::Metrics;
use upflow_core::queue::Queue;
use upflow_core::storage::Storage;

use crate::production::Production;
use crate::proxy::Proxy;

pub use crate::options::Options;
pub use crate::suites::{Backend, Suite};

/// A running UpFlow; clones are the same one.
#[derive(Clone)]
pub struct Stack(Arc<Inner>);

struct Inner {
    backend: Backend,
    options: Options,
    /// The test's own.
    ctx: Context,
    /// Of API and workers.
    serving: Context,
    proxy: Option<Proxy>,
    ground: Mutex<Option<Ground>>,
    address: SocketAddr,
    api: Mutex<Option<Running>>,
    workers: Mutex<Vec<Running>>,
    siblings: Mutex<Vec<Stack>>,
    http: reqwest::Client,
    dir: TempDir,
}

enum Ground {
    Embedded(Box<Foundation>),
    Production(Box<Production>),
}

impl Ground {
    fn settings(&self) -> (DatabaseSettings, StorageSettings) {
        match self {
            Ground::Embedded(ground) => (ground.database.clone(), ground.storage.clone()),
            Ground::Production(ground) => (ground.database.clone(), ground.storage.clone()),
        }
    }
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("it ends without a panic");
    }
}

impl Stack {
    /// Starts everything: API and one worker.
    pub async fn start(backend: Backend, options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ctx, ground) = match backend {
            Backend::Embedded => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let limits = options.limits.clone();
                let ground = Foundation::start(dir.path(), listener, limits).await.unwrap();
                (ground.ctx.clone(), Ground::Embedded(Box::new(ground)))
            }
            Backend::Production | Backend::Bucket => {
                let ground = Production::start(backend == Backend::Bucket, &options).await;
                (ground.ctx.clone(), Ground::Production(Box::new(ground)))
            }
        };
        let proxy = match ground.settings().1.endpoint {
            Some(endpoint) if options.proxied => Some(Proxy::before(&endpoint).await),
            _ => None,
        };
        let mut serving = ctx.clone();
        let storage = storage(&ground, proxy.as_ref(), &options);
        serving.storage = Storage::connect(&storage, &serving.metrics).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stack = Self(Arc::new(Inner {
            backend,
            options,
            ctx,
            serving,
            proxy,
            ground: Mutex::new(Some(ground)),
            address: listener.local_addr().unwrap(),
            api: Mutex::new(None),
            workers: Mutex::new(Vec::new()),
            siblings: Mutex::new(Vec::new()),
            http: crate::client::http(),
            dir,
        }));
        stack.serve(listener, stack.0.options.serve.clone());
        stack.start_worker();
        stack
    }

    /// Another UpFlow on the same backend, with nothing in common with this one.
    pub async fn sibling(&self, options: Options) -> Self {
        let sibling = Self::start(self.0.backend, options).await;
        self.0.siblings.lock().unwrap().push(sibling.clone());
        sibling
    }

    fn serve(&self, listener: TcpListener, settings: ServeSettings) {
        let stop = CancellationToken::new();
        let serve = upflow_api::serve(self.0.serving.clone(), settings, listener, stop.clone());
        let task = tokio::spawn(async move { serve.await.unwrap() });
        *self.0.api.lock().unwrap() = Some(Running { stop, task });
    }

    /// Serves again on the address it had.
    pub async fn start_api(&self) {
        self.serve(TcpListener::bind(self.0.address).unwrap(), self.0.options.serve.clone());
    }

    /// Serves from now on with other settings.
    pub async fn serve_otherwise(&self, settings: ServeSettings) {
        self.stop_api().await;
        self.serve(TcpListener::bind(self.0.address).unwrap(), settings);
    }

    pub async fn stop_api(&self) {
        let running = self.0.api.lock().unwrap().take();
        if let Some(running) = running {
            running.end().await;
        }
    }

    /// One more worker.
    pub fn start_worker(&self) {
        let stop = CancellationToken::new();
        let (ctx, settings) = (self.0.serving.clone(), self.0.options.worker.clone());
        let task = tokio::spawn(upflow_worker::run(ctx, settings, stop.clone()));
        self.0.workers.lock().unwrap().push(Running { stop, task });
    }

    /// Tells all workers to stop, and waits until they have.
    pub async fn stop_workers(&self) {
        let workers = std::mem::take(&mut *self.0.workers.lock().unwrap());
        for worker in workers {
            worker.end().await;
        }
    }

    /// As another process would: nothing is shared but the queue in memory.
    pub async fn connect_again(&self) -> Context {
        let (database, storage) = {
            let ground = self.0.ground.lock().unwrap();
            let ground = ground.as_ref().unwrap();
            (ground.settings().0, storage(ground, self.0.proxy.as_ref(), &self.0.options))
        };
        let queue = match self.0.backend {
            Backend::Embedded => self.0.ctx.queue.clone(),
            _ => {
                let settings = self.production(|production| production.queue.clone());
                Queue::redis(&settings).await.unwrap()
            }
        };
        let metrics = Metrics::default();
        Context {
            db: upflow_core::db::connect(&database).await.unwrap(),
            storage: Storage::connect(&storage, &metrics).await,
            queue,
            limits: self.0.ctx.limits.clone(),
            metrics,
        }
    }

    /// Ends all workers without a word to what they have in hand: those jobs go on, unwatched. A real kill
    /// is in `processes` and `command`.
    pub async fn abandon_workers(&self) {
        let workers = std::mem::take(&mut *self.0.workers.lock().unwrap());
        for worker in workers {
            worker.task.abort();
            let _ = worker.task.await;
        }
    }

    pub async fn tear_down(&self) {
        let siblings = std::mem::take(&mut *self.0.siblings.lock().unwrap());
        for sibling in siblings {
            Box::pin(sibling.tear_down()).await;
        }
        let api = self.0.api.lock().unwrap().take();
        let workers = std::mem::take(&mut *self.0.workers.lock().unwrap());
        for running in api.into_iter().chain(workers) {
            running.stop.cancel();
            let _ = running.task.await;
        }
        let ground = self.0.ground.lock().unwrap().take();
        match ground {
            Some(Ground::Embedded(ground)) => ground.stop().await,
            Some(Ground::Production(ground)) => ground.tear_down().await,
            None => {}
        }
    }

    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    pub fn proxy(&self) -> &Proxy {
        self.0.proxy.as_ref().expect("this stack was started with a proxy")
    }

    pub fn ctx(&self) -> &Context {
        &self.0.ctx
    }

    /// What API and workers hold: their metrics, and S3 by their way to it.
    pub fn serving(&self) -> &Context {
        &self.0.serving
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    pub fn dir(&self) -> &std::path::Path {
        self.0.dir.path()
    }

    /// What only the production set has.
    pub fn production<T>(&self, look: impl FnOnce(&Production) -> T) -> T {
        match &*self.0.ground.lock().unwrap() {
            Some(Ground::Production(ground)) => look(ground),
            _ => panic!("this test is for the production set"),
        }
    }
}

/// How API and workers reach S3.
fn storage(ground: &Ground, proxy: Option<&Proxy>, options: &Options) -> StorageSettings {
    let mut storage = ground.settings().1;
    storage.timeout = options.s3_timeout;
    storage.max_calls = options.s3_calls;
    if let Some(proxy) = proxy {
        storage.endpoint = Some(proxy.url());
        storage.public_endpoint = Some(proxy.url());
    }
    storage
}

/// Looks until `found` is something, for at most 30 seconds: waits for an event, whenever it comes.
pub async fn eventually<T, F>(what: &str, mut found: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "this did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
