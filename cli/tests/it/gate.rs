//! A gate before a server: a TCP proxy that can be shut, so that the server is gone for those who reach
//! it through the gate, and opened again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

#[derive(Clone)]
pub struct Gate {
    port: u16,
    open: Arc<watch::Sender<bool>>,
    passed: Arc<AtomicUsize>,
}

impl Gate {
    /// A gate before the host and port of `url`.
    pub async fn before(url: &Url) -> Self {
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(watch::channel(true).0);
        let state = open.clone();
        let passed = Arc::<AtomicUsize>::default();
        let count = passed.clone();
        tokio::spawn(async move {
            loop {
                let Ok((mut inner, _)) = listener.accept().await else { return };
                let (target, mut shut) = (target.clone(), state.subscribe());
                let count = count.clone();
                tokio::spawn(async move {
                    if !*shut.borrow() {
                        return;
                    }
                    let Ok(mut outer) = TcpStream::connect(&target).await else { return };
                    let ((from, to), (back_from, back_to)) = (inner.split(), outer.split());
                    tokio::select! {
                        _ = pass(from, back_to, &count) => {}
                        _ = pass(back_from, to, &count) => {}
                        _ = shut.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port, open, passed }
    }

    /// The same address, through the gate.
    pub fn url(&self, url: &Url) -> Url {
        let mut url = url.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url
    }

    /// The bytes that have passed so far, both ways.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }

    /// Cuts every connection, and every new one at once.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

/// Until one side ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicUsize,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        count.fetch_add(read, Ordering::Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}
