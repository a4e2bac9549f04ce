//! What stands before several API servers: takes a connection to one of those that are in, the next one in turn.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

pub struct Balancer {
    pub port: u16,
    backends: Arc<Mutex<Vec<u16>>>,
}

impl Balancer {
    pub async fn before(backends: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let backends = Arc::new(Mutex::new(backends.to_vec()));
        let (current, turn) = (backends.clone(), AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let backend = {
                    let backends = current.lock().unwrap();
                    backends[turn.fetch_add(1, Ordering::Relaxed) % backends.len()]
                };
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", backend)).await else {
                        return;
                    };
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, backends }
    }

    /// From now on new connections go to these.
    pub fn use_only(&self, backends: &[u16]) {
        *self.backends.lock().unwrap() = backends.to_vec();
    }
}
