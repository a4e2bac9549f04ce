//! A whole UpFlow for one test: its own database, queue and key prefix, an API on a free port, and as
//! many workers as the test wants. API and workers run in this process and can be stopped and started
//! one by one; `processes` runs the real programs instead.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use upflow::embedded::Foundation;
use upflow_api::config::ServeSettings;
use upflow_api::limits::ClientLimits;
use upflow_core::Context;
use upflow_core::config::{DatabaseSettings, Limits, StorageSettings};
use upflow_core::queue::Queue;
use upflow_core::storage::Storage;
use upflow_worker::WorkerSettings;

use crate::production::{Production, services};
use crate::proxy::Proxy;

/// The longest that one test may take.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// SQLite, local S3, queue in memory.
    Embedded,
    /// PostgreSQL, Redis, and an S3 server on loopback.
    Production,
    /// PostgreSQL, Redis, and the bucket of the environment.
    Bucket,
}

type Test = fn(Stack) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a test may want otherwise.
#[derive(Clone)]
pub struct Options {
    pub limits: Limits,
    pub serve: ServeSettings,
    pub worker: WorkerSettings,
    /// Reach database, queue and storage through gates that can be shut.
    pub gated: bool,
    /// API, workers and clients reach S3 through a proxy; only the test itself does not.
    pub proxied: bool,
    /// Instead of a prefix of its own.
    pub key_prefix: Option<String>,
    /// One try of a call to S3.
    pub s3_timeout: Duration,
    /// Calls to S3 of a program at once.
    pub s3_calls: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits {
                url_life: Duration::from_secs(900),
                upload_life: Duration::from_secs(7 * 24 * 3600),
                retention: Duration::from_secs(30 * 24 * 3600),
                eager: true,
                s3_calls_per_request: 16,
            },
            serve: ServeSettings::open(ClientLimits::default()),
            worker: WorkerSettings {
                jobs: 4,
                copies: 8,
                stream_memory: 64 * 1024 * 1024,
                lease: Duration::from_secs(5),
                attempts: 100,
                cleanup_grace: Duration::from_secs(1),
                janitor_interval: Duration::from_millis(300),
                orphan_interval: Duration::ZERO,
            },
            gated: false,
            proxied: false,
            key_prefix: None,
            s3_timeout: Duration::from_secs(10),
            s3_calls: 256,
        }
    }
}

/// Tests that run on any backend.
#[derive(Clone, Copy)]
pub struct Suite {
    pub name: &'static str,
    pub tests: &'static [(&'static str, Test)],
}

/// Makes a [`Suite`] of `async fn(Stack)`s.
#[macro_export]
macro_rules! suite {
    ($name:literal: $($test:ident,)*) => {
        $crate::harness::Suite {
            name: $name,
            tests: &[$((stringify!($test), |stack| Box::pin($test(stack)))),*],
        }
    };
}

impl Suite {
    pub fn trials(self, backend: Backend) -> Vec<Trial> {
        let (there, required) = (backend.is_there(), backend.is_required());
        let tests = self.tests.iter().map(|&(test, run)| {
            let name = format!("{}::{}::{test}", backend.name(), self.name);
            let trial = Trial::test(name, move || run_test(backend, run));
            // Never passed where a service is missing; and with `scripts/test` never left out.
            trial.with_ignored_flag(!there && !required)
        });
        tests.collect()
    }
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Embedded => "embedded",
            Backend::Production => "production",
            Backend::Bucket => "bucket",
        }
    }

    pub fn is_there(self) -> bool {
        match self {
            Backend::Embedded => true,
            Backend::Production => services().is_some(),
            Backend::Bucket => std::env::var_os("TEST_S3_ENV").is_some(),
        }
    }

    fn is_required(self) -> bool {
        self == Backend::Production && std::env::var_os("TEST_REQUIRE_SERVICES").is_some()
    }
}

fn run_test(backend: Backend, test: Test) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failed::from(error.to_string()))?;
    let outcome = runtime.block_on(async {
        let stack = Stack::start(backend, Options::default()).await;
        let run = AssertUnwindSafe(test(stack.clone())).catch_unwind();
        let outcome = match tokio::time::timeout(TEST_TIMEOUT, run).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(panic)) => Err(text_of(panic)),
            Err(_) => Err(format!("took longer than {TEST_TIMEOUT:?}")),
        };
        stack.tear_down().await;
        outcome
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome.map_err(Failed::from)
}

fn text_of(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the test panicked".to_owned())
}

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
        serving.storage = Storage::connect(&storage).await;
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

    /// A worker with connections and a runtime of its own, so that it can be killed.
    pub async fn start_mortal_worker(&self) -> Mortal {
        let settings = self.0.options.worker.clone();
        self.mortal(move |ctx| upflow_worker::run(ctx, settings, CancellationToken::new())).await
    }

    /// One more API that can be killed, at this address.
    pub async fn start_mortal_api(&self, address: SocketAddr) -> Mortal {
        let settings = self.0.options.serve.clone();
        let serve = move |ctx| async move {
            let listener = TcpListener::bind(address).unwrap();
            upflow_api::serve(ctx, settings, listener, CancellationToken::new()).await.unwrap();
        };
        self.mortal(serve).await
    }

    async fn mortal<F>(&self, life: impl FnOnce(Context) -> F + Send + 'static) -> Mortal
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stack = self.clone();
        let start = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let ctx = runtime.block_on(stack.connect_again());
            runtime.spawn(life(ctx));
            Mortal(runtime)
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    async fn connect_again(&self) -> Context {
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
        Context {
            db: upflow_core::db::connect(&database).await.unwrap(),
            storage: Storage::connect(&storage).await,
            queue,
            limits: self.0.ctx.limits.clone(),
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

    pub fn proxy(&self) -> &Proxy {
        self.0.proxy.as_ref().expect("this stack was started with a proxy")
    }

    pub fn ctx(&self) -> &Context {
        &self.0.ctx
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

/// A worker or an API that can be killed: what it has in hand ends at once, wherever it is, and nothing is told to
/// anybody.
pub struct Mortal(tokio::runtime::Runtime);

impl Mortal {
    pub async fn kill(self) {
        let end = || self.0.shutdown_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(end).await.unwrap();
    }
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
