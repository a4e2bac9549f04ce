//! Where Prometheus finds the metrics.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::Faults;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsArgs {
    /// Where /metrics is for Prometheus, as in 127.0.0.1:9464; it asks for no key. `off` for nowhere. By
    /// default port 9464 of loopback for the API, 9465 for the worker, if it is free
    #[arg(long, env = "UPFLOW_METRICS_ADDR", value_name = "ADDRESS")]
    pub metrics_addr: Option<String>,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsSettings {
    Off,
    At(SocketAddr),
    /// There, unless another process has the port already: several run on one machine.
    IfFree(SocketAddr),
}

impl MetricsArgs {
    pub fn check(self, default_port: u16, faults: &mut Faults) -> Option<MetricsSettings> {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, default_port));
        let given = self.metrics_addr.unwrap_or_default();
        let given = given.trim();
        match given.replacen("localhost", "127.0.0.1", 1).as_str() {
            "" => Some(MetricsSettings::IfFree(default)),
            "off" => Some(MetricsSettings::Off),
            address => match address.parse() {
                Ok(address) => Some(MetricsSettings::At(address)),
                Err(_) => {
                    let problem = format!(
                        "must be an address and a port like {default}, or off, not {given:?}"
                    );
                    faults.add("UPFLOW_METRICS_ADDR", problem);
                    None
                }
            },
        }
    }
}

impl MetricsSettings {
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) | Self::IfFree(address) => Some(address),
        }
    }

    /// Listens. `None`: nowhere, which is in the log where it was not asked for.
    pub fn listen(self) -> Result<Option<TcpListener>, MetricsError> {
        let (address, must) = match self {
            Self::Off => return Ok(None),
            Self::At(address) => (address, true),
            Self::IfFree(address) => (address, false),
        };
        match TcpListener::bind(address) {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                tracing::info!(%address, "metrics are at /metrics");
                Ok(Some(listener))
            }
            Err(error) if !must => {
                tracing::info!(%address, %error, "no metrics: choose an address with UPFLOW_METRICS_ADDR");
                Ok(None)
            }
            Err(source) => Err(MetricsError { address, source }),
        }
    }
}

/// The address that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("UPFLOW_METRICS_ADDR: cannot listen on {address}: {source}")]
pub struct MetricsError {
    address: SocketAddr,
    source: std::io::Error,
}
