//! The settings of the bare command.

use std::net::IpAddr;
use std::path::PathBuf;

use upflow_core::config::{AppArgs, AppSettings, Faults, Limits, LimitsArgs};
use upflow_worker::{WorkerArgs, WorkerSettings};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Embedded")]
pub struct EmbeddedArgs {
    /// The port of the API, the demo and Swagger UI
    #[arg(long, env = "UPFLOW_PORT", default_value = "8000")]
    pub port: String,
    /// The port of the S3 server
    #[arg(long, env = "UPFLOW_S3_PORT", default_value = "8001")]
    pub s3_port: String,
    /// Where everything is kept
    #[arg(long, env = "UPFLOW_DATA_DIR", default_value = "./upflow-data")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub app: AppArgs,
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
    pub s3_port: u16,
    pub data_dir: PathBuf,
    pub app: AppSettings,
    pub worker: WorkerSettings,
    pub limits: Limits,
    pub clients: upflow_api::limits::ClientLimits,
}

impl EmbeddedArgs {
    pub fn check(self, faults: &mut Faults) -> Option<EmbeddedSettings> {
        let port = faults.number("UPFLOW_PORT", &self.port, 0..=u16::MAX);
        let s3_port = faults.number("UPFLOW_S3_PORT", &self.s3_port, 0..=u16::MAX);
        if let (Some(port), Some(s3_port)) = (port, s3_port)
            && port == s3_port
            && port != 0
        {
            faults.add("UPFLOW_S3_PORT", format!("is {port}, as UPFLOW_PORT is: choose two ports"));
        }
        let app = self.app.check(faults);
        let worker = self.worker.check(faults);
        let limits = self.limits.check(faults);
        let clients = self.clients.check(faults);
        Some(EmbeddedSettings {
            host: IpAddr::from([127, 0, 0, 1]),
            port: port?,
            s3_port: s3_port?,
            data_dir: self.data_dir,
            app: app?,
            worker: worker?,
            limits: limits?,
            clients: clients?,
        })
    }
}
