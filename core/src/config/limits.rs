//! How long things live and how much is done at once.

use std::time::Duration;

use super::Faults;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitsArgs {
    /// Life of a presigned URL; up to 7d for transfers in the background of a phone
    #[arg(long, env = "UPFLOW_URL_LIFE", default_value = "15m")]
    pub url_life: String,
    /// How long an upload waits for its client, counted from the last init, presign or confirm
    #[arg(long, env = "UPFLOW_UPLOAD_LIFE", default_value = "7d")]
    pub upload_life: String,
    /// How long the rows of ended uploads are kept; the completed files themselves stay
    #[arg(long, env = "UPFLOW_RETENTION", default_value = "30d")]
    pub retention: String,
    /// When files are assembled: `eager`, part by part as their chunks are confirmed, or `on_complete`
    #[arg(long, env = "UPFLOW_ASSEMBLY", default_value = "eager")]
    pub assembly: String,
    /// Calls to S3 that one request of a client may have under way at once
    #[arg(long, env = "UPFLOW_S3_CALLS_PER_REQUEST", default_value = "32")]
    pub s3_calls_per_request: String,
}

#[derive(Debug, Clone)]
pub struct Limits {
    pub url_life: Duration,
    pub upload_life: Duration,
    pub retention: Duration,
    /// Chunks are copied into the final object's parts as they are confirmed.
    pub eager: bool,
    pub s3_calls_per_request: usize,
}

impl LimitsArgs {
    pub fn check(self, faults: &mut Faults) -> Option<Limits> {
        let url_life = faults.duration("UPFLOW_URL_LIFE", &self.url_life, SECOND..=7 * DAY);
        let upload_life =
            faults.duration("UPFLOW_UPLOAD_LIFE", &self.upload_life, SECOND..=365 * DAY);
        let retention = faults.duration("UPFLOW_RETENTION", &self.retention, SECOND..=3650 * DAY);
        let s3_calls_per_request =
            faults.number("UPFLOW_S3_CALLS_PER_REQUEST", &self.s3_calls_per_request, 1..=1_000);
        let eager = match self.assembly.trim() {
            "eager" => Some(true),
            "on_complete" => Some(false),
            other => {
                let problem = format!("must be eager or on_complete, not {other:?}");
                faults.add("UPFLOW_ASSEMBLY", problem);
                None
            }
        };
        Some(Limits {
            url_life: url_life?,
            upload_life: upload_life?,
            retention: retention?,
            eager: eager?,
            s3_calls_per_request: s3_calls_per_request?,
        })
    }
}
