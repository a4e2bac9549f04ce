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
    asked: Arc<AtomicUsize>,
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
        let asked = Arc::<AtomicUsize>::default();
        let counts = (passed.clone(), asked.clone());
        tokio::spawn(async move {
            loop {
                let Ok((mut inner, _)) = listener.accept().await else { return };
                let (target, mut shut) = (target.clone(), state.subscribe());
                let (count, asked) = counts.clone();
                tokio::spawn(async move {
                    if !*shut.borrow() {
                        return;
                    }
                    let Ok(mut outer) = TcpStream::connect(&target).await else { return };
                    let ((from, to), (back_from, back_to)) = (inner.split(), outer.split());
                    let mut messages = Messages::default();
                    let questions = |bytes: &[u8]| {
                        count.fetch_add(bytes.len(), Ordering::Relaxed);
                        asked.fetch_add(messages.questions(bytes), Ordering::Relaxed);
                    };
                    let answers = |bytes: &[u8]| {
                        count.fetch_add(bytes.len(), Ordering::Relaxed);
                    };
                    tokio::select! {
                        _ = pass(from, back_to, questions) => {}
                        _ = pass(back_from, to, answers) => {}
                        _ = shut.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port, open, passed, asked }
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

    /// How often a PostgreSQL has been asked something that its client waits for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Cuts every connection, and every new one at once.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

/// The length of the message before the first one, which asks for TLS.
const ASKS_FOR_TLS: usize = 8;

/// What a client of PostgreSQL sends: messages of a type and a length that counts itself, the first one without a
/// type (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
#[derive(Default)]
struct Messages {
    head: Vec<u8>,
    /// Bytes of the message that are still to come.
    left: usize,
    /// The first one has come.
    begun: bool,
    /// The next Sync ends a question; by itself, as a connection goes back to its pool, it asks nothing.
    asks: bool,
}

impl Messages {
    /// So many of these messages are questions, each with its answer: a Sync or a simple query.
    fn questions(&mut self, bytes: &[u8]) -> usize {
        let mut questions = 0;
        for byte in bytes {
            if self.left > 0 {
                self.left -= 1;
                continue;
            }
            self.head.push(*byte);
            let typed = usize::from(self.begun);
            if let Some(&[a, b, c, d]) = self.head.get(typed..typed + 4) {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                self.left = length.saturating_sub(4);
                questions += usize::from(match (self.begun, self.head[0]) {
                    (true, b'Q') => true,
                    (true, b'S') => std::mem::take(&mut self.asks),
                    (begun, _) => {
                        self.asks = begun;
                        false
                    }
                });
                self.begun |= length != ASKS_FOR_TLS;
                self.head.clear();
            }
        }
        questions
    }
}

/// Until one side ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passing: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        passing(&buffer[..read]);
        to.write_all(&buffer[..read]).await?;
    }
}
