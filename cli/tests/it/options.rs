//! What a test may want otherwise.

use std::time::Duration;

use upflow_api::config::ServeSettings;
use upflow_api::limits::ClientLimits;
use upflow_core::config::Limits;
use upflow_worker::WorkerSettings;

/// How a stack is started.
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
