//! The bucket. The only code that speaks S3: signs URLs for clients, and heads, lists, copies and
//! deletes for the API and the worker.
//!
//! Servers differ (see `error`): ETags are opaque text, quotes removed; a checksum may be absent; and
//! whether a call took effect is judged by what is there afterwards.

mod abilities;
mod calls;
mod credentials;
mod direct;
mod error;
mod key;
mod measure;
mod multipart;
mod objects;
mod presign;
mod rules;
mod strays;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::sync::OnceCell;

pub use abilities::Abilities;
pub use error::{ErrorKind, StorageError};
pub use key::{BadFilename, Filename, MAX_FILENAME_BYTES, ObjectKey, chunk_index, chunks, finals};
pub use multipart::{ListedMultipart, Multipart, MultipartPage, NewMultipart, UploadedPart};
pub use objects::{Body, Listed, ObjectHead, Page};
pub use presign::{Presigned, Signer};
pub use rules::Lifecycle;
pub use trial::{Copied, Trial};

use crate::checksum::Algorithm;
use crate::config::StorageSettings;
use crate::metrics::Metrics;
use calls::BoundedClient;
use credentials::Credentials;
use direct::Direct;

/// A handle to the bucket; clones share connections.
#[derive(Clone)]
pub struct Storage {
    client: Client,
    credentials: Arc<Credentials>,
    settings: Arc<StorageSettings>,
    direct: Arc<Direct>,
    metrics: Metrics,
    /// By algorithm.
    abilities: Arc<[OnceCell<Abilities>; Algorithm::ALL.len()]>,
}

impl Storage {
    /// Prepares the client, which counts its calls in `metrics`; nothing is sent yet but what finding
    /// credentials takes.
    pub async fn connect(settings: &StorageSettings, metrics: &Metrics) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let http = SharedHttpClient::new(BoundedClient::new(http, settings.max_calls));
        let provider = match &settings.credentials {
            Some(keys) => SharedCredentialsProvider::new(aws_credential_types::Credentials::new(
                keys.access_key.clone(),
                keys.secret_key.clone(),
                None,
                None,
                "upflow",
            )),
            None => {
                let chain = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(http.clone())
                    .region(Region::new(settings.region.clone()))
                    .load()
                    .await;
                chain
                    .credentials_provider()
                    .unwrap_or_else(|| SharedCredentialsProvider::new(NoChain))
            }
        };
        Self::with(settings, http, provider, metrics)
    }

    fn with(
        settings: &StorageSettings,
        http: SharedHttpClient,
        provider: SharedCredentialsProvider,
        metrics: &Metrics,
    ) -> Self {
        let settings = Arc::new(settings.clone());
        let direct = Arc::new(Direct::new());
        let measure = measure::Measure {
            metrics: metrics.clone(),
            settings: settings.clone(),
            direct: direct.clone(),
        };
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(settings.region.clone()))
            .credentials_provider(provider.clone())
            .interceptor(measure)
            .force_path_style(settings.path_style)
            // The default, a checksum in a streaming trailer, is refused by some servers and stored as
            // part of the object by others.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(retries())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(settings.connect_timeout())
                    .operation_attempt_timeout(settings.timeout)
                    // All tries together: who waits for a server that does not answer learns of it soon.
                    .operation_timeout(2 * settings.timeout)
                    .build(),
            );
        if let Some(endpoint) = &settings.endpoint {
            config = config.endpoint_url(endpoint.as_str());
        }
        Self {
            client: Client::from_conf(config.build()),
            credentials: Arc::new(Credentials::new(provider)),
            settings,
            direct,
            metrics: metrics.clone(),
            abilities: Arc::default(),
        }
    }

    /// Errors when the bucket is not there or may not be used.
    pub async fn check_bucket(&self) -> Result<(), StorageError> {
        self.client
            .head_bucket()
            .bucket(&self.settings.bucket)
            .send()
            .await
            .map(drop)
            .map_err(|error| StorageError::from_sdk("HeadBucket", error))
    }

    /// The whole key of an object in the bucket.
    pub fn key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.settings.key_prefix)
    }

    pub fn bucket(&self) -> &str {
        &self.settings.bucket
    }
}

/// Of each call.
const TRIES: u32 = 3;

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(TRIES)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_secs(2))
}

/// For one call that takes longer than others: `attempt` for each try.
fn patience(attempt: Duration) -> aws_sdk_s3::config::Builder {
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(attempt).operation_timeout(2 * attempt);
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts.build())
}

/// Stands where the SDK was built without any source of credentials, which it is not.
#[derive(Debug)]
struct NoChain;

impl ProvideCredentials for NoChain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded_no_source()))
    }
}

/// ETags come with quotes, without, or weak; what is compared is what stands between.
fn bare_etag(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}
