//! Where the API listens, and whom it lets in.

use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;

use upflow_core::config::Faults;

use crate::auth::{Access, Door, KeyRing, Tokens};
use crate::limits::{ClientLimits, LimitsArgs};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "API")]
pub struct ApiArgs {
    /// The address to listen on
    #[arg(long, env = "UPFLOW_HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// The port of the API, the demo and Swagger UI
    #[arg(long, env = "UPFLOW_PORT", default_value = "8000")]
    pub port: String,
    /// Serve on an address that others can reach also without keys; with keys it changes nothing
    #[arg(
        long,
        env = "UPFLOW_OPEN",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        overrides_with = "open",
        value_name = "BOOL"
    )]
    pub open: String,
    /// API keys as name:sha256 or name:sha256:admin, between commas; `upflow-api key NAME` makes one
    #[arg(long, env = "UPFLOW_API_KEYS", hide_env_values = true, default_value = "")]
    pub api_keys: String,
    /// A file with more of them, one a line
    #[arg(long, env = "UPFLOW_API_KEYS_FILE", value_name = "FILE")]
    pub api_keys_file: Option<PathBuf>,
    /// What upload tokens are signed with: id:base64 of 32 random bytes, between commas. The first signs,
    /// all verify
    #[arg(long, env = "UPFLOW_TOKEN_KEYS", hide_env_values = true, default_value = "")]
    pub token_keys: String,
    /// Names that an open server answers to besides localhost, between commas
    #[arg(long, env = "UPFLOW_ALLOWED_HOSTS", default_value = "")]
    pub allowed_hosts: String,
    #[command(flatten)]
    pub limits: LimitsArgs,
}

#[derive(Debug, Clone)]
pub struct ApiSettings {
    pub host: IpAddr,
    pub port: u16,
    pub serve: ServeSettings,
}

/// What [`crate::serve`] is told.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    pub access: Access,
    pub limits: ClientLimits,
}

impl ServeSettings {
    /// Open to this machine, as the embedded mode is.
    pub fn open(limits: ClientLimits) -> Self {
        let here = IpAddr::from([127, 0, 0, 1]);
        let door = Door::new(here, &[], &limits.origins);
        Self { access: Access { door: door.into(), ..Access::open() }, limits }
    }
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
    /// Where it listens.
    pub fn address(&self, faults: &mut Faults) -> Option<(IpAddr, u16)> {
        let port = faults.number("UPFLOW_PORT", &self.port, 0..=u16::MAX);
        let host = match self.host.trim() {
            "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
            host => host.trim_matches(['[', ']']).parse::<IpAddr>(),
        };
        if host.is_err() {
            let problem = format!("must be an IP address like 127.0.0.1, not {:?}", self.host);
            faults.add("UPFLOW_HOST", problem);
        }
        Some((host.ok()?, port?))
    }

    /// In `production` the keys that sign tokens must be given: two servers would disagree otherwise.
    pub fn check(self, production: bool, faults: &mut Faults) -> Option<ApiSettings> {
        let address = self.address(faults);
        let open = match self.open.trim() {
            "" => Some(false),
            open => faults.flag("UPFLOW_OPEN", open),
        };
        let keys = key_ring(faults, &self.api_keys, self.api_keys_file.as_deref());
        let tokens = tokens(faults, &self.token_keys);
        let limits = self.limits.check(faults);
        let ((host, port), open, keys, tokens) = (address?, open?, keys?, tokens?);
        match (&keys, &tokens) {
            (None, _) if !host.is_loopback() && !open => {
                let problem = format!(
                    "is {host}, which others can reach, and there are no keys: anybody could upload. Set UPFLOW_API_KEYS, or say --open (UPFLOW_OPEN=true) if that is meant"
                );
                faults.add("UPFLOW_HOST", problem);
            }
            (Some(_), None) if production => {
                faults.add("UPFLOW_TOKEN_KEYS", "is not set: upload tokens are signed with it, the same in every process. Set it to id:base64, the base64 from `openssl rand -base64 32`");
            }
            _ => {}
        }
        let limits = limits?;
        let hosts = self.allowed_hosts.split([',', ' ']).filter(|host| !host.is_empty());
        let hosts: Vec<String> = hosts.map(str::to_owned).collect();
        let access = Access {
            keys: keys.map(Into::into),
            tokens: tokens.unwrap_or_else(Tokens::random).into(),
            door: Door::new(host, &hosts, &limits.origins).into(),
        };
        Some(ApiSettings { host, port, serve: ServeSettings { access, limits } })
    }
}

/// The keys of the variable and of the file. `Some(None)`: there are none.
fn key_ring(
    faults: &mut Faults,
    text: &str,
    file: Option<&std::path::Path>,
) -> Option<Option<KeyRing>> {
    let file = file.filter(|path| !path.as_os_str().is_empty());
    let Some(path) = file else {
        let parsed = KeyRing::parse(text);
        return parsed.map_err(|error| faults.add("UPFLOW_API_KEYS", error.to_string())).ok();
    };
    let fault = |faults: &mut Faults, problem: String| {
        faults.add("UPFLOW_API_KEYS_FILE", format!("{}: {problem}", path.display()));
    };
    let more = match std::fs::read_to_string(path) {
        Ok(more) => more,
        Err(error) => {
            fault(faults, error.to_string());
            return None;
        }
    };
    match KeyRing::parse(&format!("{more}\n{text}")) {
        // An empty file would open the door without a word.
        Ok(None) => {
            fault(faults, "has no key in it".to_owned());
            None
        }
        Ok(ring) => Some(ring),
        Err(error) => {
            fault(faults, error.to_string());
            None
        }
    }
}

/// The keys that sign tokens. `Some(None)`: there are none.
fn tokens(faults: &mut Faults, text: &str) -> Option<Option<Tokens>> {
    Tokens::parse(text).map_err(|error| faults.add("UPFLOW_TOKEN_KEYS", error.to_string())).ok()
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
