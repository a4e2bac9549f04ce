//! The subcommand `health`: what a container's health check runs, in an image without an HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the program that listens there for this path.
///
/// # Errors
/// It does not answer in five seconds, or not with 200.
pub async fn check(mut address: SocketAddr, path: &str) -> anyhow::Result<()> {
    match address.ip() {
        IpAddr::V4(any) if any.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(any) if any.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let answer = tokio::time::timeout(TIMEOUT, ask(address, path)).await;
    let answer = answer.context("no answer in five seconds")?.context(address)?;
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("not ready: {}", answer.lines().last().unwrap_or_default()),
    }
}

async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The answer is small; whatever answers there instead need not be.
    stream.take(256 * 1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
