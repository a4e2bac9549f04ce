//! The one HTTP client, used for the server and for S3.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, redirect};

use crate::error::Error;
use crate::options::Options;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below what common load balancers keep a connection for, so that a request seldom meets one that
/// is being closed.
const KEEP_IDLE: Duration = Duration::from_secs(50);

/// # Errors
/// [`Error::Settings`] when the system offers nothing to check TLS certificates against.
pub(crate) fn client(options: &Options) -> Result<Client, Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    match builder(options).build() {
        Ok(client) => Ok(client),
        // A bare container has no certificates, and needs none for a server without TLS.
        Err(_) if options.server.scheme() == "http" => {
            builder(options).tls_certs_only([]).build().map_err(unusable)
        }
        Err(error) => Err(unusable(error)),
    }
}

fn unusable(error: reqwest::Error) -> Error {
    Error::Settings(format!(
        "TLS cannot be set up; are the system's CA certificates installed? ({})",
        causes(&error)
    ))
}

fn builder(options: &Options) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("upflow-client/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(KEEP_IDLE)
        // All chunks at once, and the calls of the API beside them.
        .pool_max_idle_per_host(options.parallel + 4)
        .tcp_nodelay(true)
        // A streamed body cannot be replayed, and a signed URL is good for its own host only.
        .redirect(redirect::Policy::none());
    if is_loopback(options) { builder.no_proxy() } else { builder }
}

/// A proxy from the environment leads out of the house; to this machine itself there is no need of one.
fn is_loopback(options: &Options) -> bool {
    match options.server.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// At most `limit` bytes of a body, and whether that was all of it.
pub(crate) async fn body(
    response: &mut Response,
    limit: usize,
) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = limit - body.len();
        if piece.len() > room {
            body.extend_from_slice(&piece[..room]);
            return Ok((body, false));
        }
        body.extend_from_slice(&piece);
    }
    Ok((body, true))
}

/// What lies under an error of the HTTP client, in one line. The URL is taken out first: its query
/// can be a signature.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // Most layers repeat the one below.
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    match texts.is_empty() {
        true if error.is_timeout() => "timed out".to_owned(),
        true => "the connection failed".to_owned(),
        false => texts.join(": "),
    }
}

/// A shared HTTP client and the settings that go with it.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub client: Client,
    pub options: Arc<Options>,
}
