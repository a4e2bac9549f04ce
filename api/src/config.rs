//! Where the API listens.

use std::net::{IpAddr, TcpListener};

use upflow_core::config::Faults;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "API")]
pub struct ApiArgs {
    /// The address to listen on
    #[arg(long, env = "UPFLOW_HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// The port of the API, the demo and Swagger UI
    #[arg(long, env = "UPFLOW_PORT", default_value = "8000")]
    pub port: String,
    /// Serve without keys on an address that others can reach
    #[arg(
        long,
        env = "UPFLOW_OPEN",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_name = "BOOL"
    )]
    pub open: String,
}

#[derive(Debug, Clone)]
pub struct ApiSettings {
    pub host: IpAddr,
    pub port: u16,
}

/// A listener that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "port {port} on {host} is taken by another program: choose one with {flag} or {variable}"
    )]
    Taken { host: IpAddr, port: u16, flag: &'static str, variable: &'static str },
    #[error("cannot listen on {host} port {port} ({variable}): {source}")]
    Other { host: IpAddr, port: u16, variable: &'static str, source: std::io::Error },
}

impl ApiArgs {
    pub fn check(self, faults: &mut Faults) -> Option<ApiSettings> {
        let port = faults.number("UPFLOW_PORT", &self.port, 0..=u16::MAX);
        let host = match self.host.trim() {
            "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
            host => host.trim_matches(['[', ']']).parse::<IpAddr>(),
        };
        let Ok(host) = host else {
            faults.add(
                "UPFLOW_HOST",
                format!("must be an IP address like 127.0.0.1, not {:?}", self.host),
            );
            return None;
        };
        let open = match self.open.trim() {
            "" => false,
            open => faults.flag("UPFLOW_OPEN", open)?,
        };
        if !host.is_loopback() && !open {
            let problem = format!(
                "is {host}, which others can reach, and there are no keys yet: anybody could upload. Say --open (UPFLOW_OPEN=true) if that is meant"
            );
            faults.add("UPFLOW_HOST", problem);
        }
        Some(ApiSettings { host, port: port? })
    }
}

/// Listens; a taken port is told by the flag and the variable that choose another.
pub fn listen(
    host: IpAddr,
    port: u16,
    flag: &'static str,
    variable: &'static str,
) -> Result<TcpListener, ListenError> {
    TcpListener::bind((host, port)).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::Taken { host, port, flag, variable },
        _ => ListenError::Other { host, port, variable, source },
    })
}
