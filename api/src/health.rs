//! `upflow-api health`: what a container's health check runs, in an image without an HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the API that listens there whether it is ready: database, storage and queue answer.
///
/// # Errors
/// It does not answer in five seconds, or is not ready.
pub async fn check(host: IpAddr, port: u16) -> anyhow::Result<()> {
    let host = match host {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let address = SocketAddr::new(host, port);
    let answer = tokio::time::timeout(TIMEOUT, ask(address)).await;
    let answer = answer.context("no answer in five seconds")?.context(address)?;
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("not ready: {}", answer.lines().last().unwrap_or_default()),
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    // The answer is small; whatever answers there instead need not be.
    stream.take(64 * 1024).read_to_string(&mut answer).await?;
    Ok(answer)
}
