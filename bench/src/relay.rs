//! A TCP relay on this machine that counts what passes through it, each way. What is compared goes through
//! one of its own, so that all pay the same for it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

pub struct Relay {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    line: Option<Line>,
}

/// A line to the server that all connections share.
struct Line {
    /// Bytes a second.
    rate: u64,
    /// When what was let through so far has passed.
    free_at: Mutex<Instant>,
}

/// What a line takes in at once: timers are of a millisecond, and every piece of a chunk would wait for one.
const BUFFERED: Duration = Duration::from_millis(5);

impl Line {
    async fn pass(&self, bytes: usize) {
        let free_at = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
            *free_at = (*free_at).max(Instant::now()) + takes;
            *free_at
        };
        tokio::time::sleep_until(free_at - BUFFERED).await;
    }
}

/// Bytes, as who uses the relay sees them: headers and all.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    pub sent: u64,
    pub received: u64,
}

impl Drop for Relay {
    /// Its connections end with it.
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Relay {
    /// To a server at `http://HOST:PORT`.
    pub async fn to(endpoint: &str) -> anyhow::Result<Relay> {
        Relay::limited(endpoint, None).await
    }

    /// The same, which lets so many bytes a second to the server, of all connections together.
    pub async fn limited(endpoint: &str, rate: Option<u64>) -> anyhow::Result<Relay> {
        let server = endpoint.strip_prefix("http://").context("the endpoint is not http://")?;
        let server = server.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let line = rate.map(|rate| Line { rate, free_at: Mutex::new(Instant::now()) });
        let counts = Arc::new(Counts { line, ..Counts::default() });
        let accepting = tokio::spawn(accept(listener, server, counts.clone()));
        Ok(Relay { address, counts, accepting })
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Since the last call, or the start.
    pub fn take(&self) -> Passed {
        Passed {
            sent: self.counts.sent.swap(0, Ordering::Relaxed),
            received: self.counts.received.swap(0, Ordering::Relaxed),
        }
    }
}

async fn accept(listener: TcpListener, server: String, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (server, counts) = (server.clone(), counts.clone());
        connections.spawn(async move {
            // Whichever side fails, the other sees its connection close, and says so.
            let _ = relay(near, &server, &counts).await;
        });
    }
}

async fn relay(mut near: TcpStream, server: &str, counts: &Counts) -> std::io::Result<()> {
    let mut far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
    tokio::try_join!(
        pump(near_in, far_out, &counts.sent, counts.line.as_ref()),
        pump(far_in, near_out, &counts.received, None),
    )?;
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
    line: Option<&Line>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        count.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(line) = line {
            line.pass(length).await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}
