//! The settings of the bare command and of `upflow s3`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use upflow_core::config::{
    AppArgs, AppSettings, Faults, Limits, LimitsArgs, MetricsArgs, MetricsSettings,
    StaticCredentials,
};
use upflow_worker::{WorkerArgs, WorkerSettings};

const BUCKET: &str = "upflow";
const REGION: &str = "us-east-1";
/// Where Prometheus finds the metrics unless told otherwise.
const METRICS_PORT: u16 = 9464;
const ACCESS_KEY: &str = "UPFLOW_S3_ACCESS_KEY";
const SECRET_KEY: &str = "UPFLOW_S3_SECRET_KEY";

/// The local S3 store. Its keys are taken from the environment alone: what stands in a command line can be
/// read by every user of the machine.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Local S3 (keys of your own: UPFLOW_S3_ACCESS_KEY, UPFLOW_S3_SECRET_KEY)"
)]
pub struct StoreArgs {
    /// The port of the S3 server
    #[arg(long, env = "UPFLOW_S3_PORT", default_value = "8001")]
    pub s3_port: String,
    /// Where everything is kept
    #[arg(long, env = "UPFLOW_DATA_DIR", default_value = "./upflow-data")]
    pub data_dir: PathBuf,
    /// The bucket; it is created if it is missing
    #[arg(long, env = "UPFLOW_S3_BUCKET", default_value = BUCKET)]
    pub s3_bucket: String,
    /// The region that requests have to be signed for
    #[arg(long, env = "UPFLOW_S3_REGION", default_value = REGION)]
    pub s3_region: String,
    /// The space that objects and parts may take, as in 100GiB; by default what the disk has
    #[arg(long, env = "UPFLOW_S3_MAX_BYTES", default_value = "", value_name = "SIZE")]
    pub s3_max_bytes: String,
}

#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// 0 takes any free port.
    pub port: u16,
    pub data_dir: PathBuf,
    pub bucket: String,
    pub region: String,
    /// The space that objects and parts may take; `None` is the disk's.
    pub max_bytes: Option<u64>,
    /// None: those of the data folder, made at the first run.
    pub credentials: Option<StaticCredentials>,
}

impl StoreSettings {
    /// The defaults, in a folder and on any free port.
    pub fn in_folder(dir: &Path) -> Self {
        Self {
            port: 0,
            data_dir: dir.to_owned(),
            bucket: BUCKET.to_owned(),
            region: REGION.to_owned(),
            max_bytes: None,
            credentials: None,
        }
    }
}

impl StoreArgs {
    pub fn check(self, faults: &mut Faults) -> Option<StoreSettings> {
        let port = faults.number("UPFLOW_S3_PORT", &self.s3_port, 0..=u16::MAX);
        let bucket = bucket(self.s3_bucket, faults);
        let region = region(self.s3_region, faults);
        let max_bytes = match self.s3_max_bytes.trim() {
            "" => Some(None),
            text => faults.bytes("UPFLOW_S3_MAX_BYTES", text, 1..=i64::MAX).map(Some),
        };
        let credentials = credentials(faults);
        Some(StoreSettings {
            port: port?,
            data_dir: self.data_dir,
            bucket: bucket?,
            region: region?,
            max_bytes: max_bytes?.map(i64::unsigned_abs),
            credentials: credentials?,
        })
    }
}

fn bucket(name: String, faults: &mut Faults) -> Option<String> {
    if s3s::path::check_bucket_name(&name) {
        return Some(name);
    }
    let rule = "3 to 63 lower-case letters, digits, dots and hyphens";
    faults.add("UPFLOW_S3_BUCKET", format!("must be the name of a bucket, {rule}, not {name:?}"));
    None
}

fn region(name: String, faults: &mut Faults) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && name.bytes().all(fits) {
        return Some(name);
    }
    faults.add("UPFLOW_S3_REGION", format!("must be a region like us-east-1, not {name:?}"));
    None
}

/// Both keys or neither; what is wrong with them is told without repeating them.
fn credentials(faults: &mut Faults) -> Option<Option<StaticCredentials>> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let (access_key, secret_key) = match (set(ACCESS_KEY), set(SECRET_KEY)) {
        (None, None) => return Some(None),
        (Some(access_key), Some(secret_key)) => (access_key, secret_key),
        (access_key, _) => {
            let (missing, given) = match access_key {
                Some(_) => (SECRET_KEY, ACCESS_KEY),
                None => (ACCESS_KEY, SECRET_KEY),
            };
            faults.add(missing, format!("is not set, but {given} is: set both or neither"));
            return None;
        }
    };
    // Slashes and commas divide the fields of a signature.
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !access_key.bytes().all(of_a_name) {
        faults.add(ACCESS_KEY, "may have letters, digits, hyphens, dots and underscores only");
        return None;
    }
    if !secret_key.bytes().all(|byte| byte.is_ascii_graphic()) {
        faults.add(SECRET_KEY, "may have printable ASCII characters only, and no spaces");
        return None;
    }
    Some(Some(StaticCredentials { access_key, secret_key }))
}

/// The bare command: everything in one process.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Embedded")]
pub struct EmbeddedArgs {
    /// The port of the API, the demo and Swagger UI
    #[arg(long, env = "UPFLOW_PORT", default_value = "8000")]
    pub port: String,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub metrics: MetricsArgs,
    #[command(flatten)]
    pub worker: WorkerArgs,
    #[command(flatten)]
    pub limits: LimitsArgs,
    #[command(flatten)]
    pub clients: upflow_api::limits::LimitsArgs,
}

#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    pub host: IpAddr,
    /// 0 takes any free port.
    pub port: u16,
    pub store: StoreSettings,
    pub app: AppSettings,
    pub metrics: MetricsSettings,
    pub worker: WorkerSettings,
    pub limits: Limits,
    pub clients: upflow_api::limits::ClientLimits,
}

impl EmbeddedArgs {
    pub fn check(self, faults: &mut Faults) -> Option<EmbeddedSettings> {
        let port = faults.number("UPFLOW_PORT", &self.port, 0..=u16::MAX);
        let store = self.store.check(faults);
        if let (Some(port), Some(store)) = (port, &store)
            && port == store.port
            && port != 0
        {
            faults.add("UPFLOW_S3_PORT", format!("is {port}, as UPFLOW_PORT is: choose two ports"));
        }
        let app = self.app.check(faults);
        let metrics = self.metrics.check(METRICS_PORT, faults);
        let worker = self.worker.check(faults);
        let limits = self.limits.check(faults);
        let clients = self.clients.check(faults);
        Some(EmbeddedSettings {
            host: IpAddr::from([127, 0, 0, 1]),
            port: port?,
            store: store?,
            app: app?,
            metrics: metrics?,
            worker: worker?,
            limits: limits?,
            clients: clients?,
        })
    }
}
