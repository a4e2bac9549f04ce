//! Where jobs are announced.

use std::time::Duration;

use super::Faults;

/// Longer than a worker may be silent about a message that it works on.
const CLAIM_AFTER: Duration = Duration::from_secs(60);
const REMOVE_AFTER: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Queue")]
pub struct QueueArgs {
    /// redis://[user:password@]host:port[/db], rediss:// for TLS; overrides the next two
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    #[arg(long, env = "REDIS_HOST", default_value = "127.0.0.1")]
    pub redis_host: String,
    #[arg(long, env = "REDIS_PORT", default_value = "6379")]
    pub redis_port: String,
    /// The stream that holds the jobs; deployments that share a Redis need one each
    #[arg(long, env = "REDIS_STREAM", default_value = "upflow:jobs")]
    pub redis_stream: String,
}

#[derive(Clone)]
pub struct QueueSettings {
    pub url: String,
    pub stream: String,
    /// Messages of a consumer that was silent for so long pass to another one.
    pub claim_after: Duration,
    /// Consumers that were silent for so long and hold nothing are removed.
    pub remove_after: Duration,
}

impl std::fmt::Debug for QueueSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueSettings").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl QueueArgs {
    pub fn check(self, faults: &mut Faults) -> Option<QueueSettings> {
        let stream = faults.required("REDIS_STREAM", Some(self.redis_stream), "upflow:jobs");
        let url = match self.redis_url.filter(|url| !url.trim().is_empty()) {
            Some(url) => checked(&url, faults),
            None => {
                let port = faults.number("REDIS_PORT", &self.redis_port, 1..=u16::MAX);
                let host =
                    faults.required("REDIS_HOST", Some(self.redis_host), "the host of Redis");
                Some(format!("redis://{}:{}", host?, port?))
            }
        };
        Some(QueueSettings {
            url: url?,
            stream: stream?,
            claim_after: CLAIM_AFTER,
            remove_after: REMOVE_AFTER,
        })
    }
}

/// The client takes `http://` for Redis without a word, so the scheme is checked here.
fn checked(url: &str, faults: &mut Faults) -> Option<String> {
    const SCHEMES: [&str; 6] =
        ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];
    match url::Url::parse(url.trim()) {
        Ok(parsed) if SCHEMES.contains(&parsed.scheme()) => Some(url.trim().to_owned()),
        Ok(_) => {
            faults.add("REDIS_URL", "must start with redis:// or rediss://");
            None
        }
        Err(error) => {
            faults.add("REDIS_URL", format!("is no URL ({error})"));
            None
        }
    }
}
