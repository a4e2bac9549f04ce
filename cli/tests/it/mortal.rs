//! Workers and APIs that can be killed in the middle of whatever they do.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use upflow_core::Context;

use crate::harness::Stack;

/// A worker or an API that can be killed: what it has in hand ends at once, wherever it is, and nothing is told to
/// anybody.
pub struct Mortal(tokio::runtime::Runtime);

impl Mortal {
    pub async fn kill(self) {
        let end = || self.0.shutdown_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(end).await.unwrap();
    }
}

impl Stack {
    /// A worker with connections and a runtime of its own, so that it can be killed.
    pub async fn start_mortal_worker(&self) -> Mortal {
        let settings = self.options().worker.clone();
        self.mortal(move |ctx| upflow_worker::run(ctx, settings, CancellationToken::new())).await
    }

    /// One more API that can be killed, at this address.
    pub async fn start_mortal_api(&self, address: SocketAddr) -> Mortal {
        let settings = self.options().serve.clone();
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
}
