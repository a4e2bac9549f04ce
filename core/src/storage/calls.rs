//! A bound on the calls to S3 that a process has under way, and so on its connections: however many requests
//! ask for some, the rest wait their turn.

use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::sync::Semaphore;

/// Passes calls on to another client, so many at once. A call ends with the head of its answer.
#[derive(Debug)]
pub(super) struct BoundedClient {
    inner: SharedHttpClient,
    calls: Arc<Semaphore>,
}

#[derive(Debug)]
struct BoundedConnector {
    inner: SharedHttpConnector,
    calls: Arc<Semaphore>,
}

impl BoundedClient {
    pub fn new(inner: SharedHttpClient, calls: usize) -> Self {
        Self { inner, calls: Arc::new(Semaphore::new(calls)) }
    }
}

impl HttpClient for BoundedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(BoundedConnector { inner, calls: self.calls.clone() })
    }
}

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (inner, calls) = (self.inner.clone(), self.calls.clone());
        HttpConnectorFuture::new(async move {
            // The semaphore is never closed.
            let closed = |error: tokio::sync::AcquireError| ConnectorError::user(error.into());
            let _permit = calls.acquire().await.map_err(closed)?;
            inner.call(request).await
        })
    }
}
