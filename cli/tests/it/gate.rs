//! A gate before a server: a TCP proxy that can be shut, so that the server is gone for those who reach
//! it through the gate, and opened again.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

#[derive(Clone)]
pub struct Gate {
    port: u16,
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// A gate before the host and port of `url`.
    pub async fn before(url: &Url) -> Self {
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(watch::channel(true).0);
        let state = open.clone();
        tokio::spawn(async move {
            loop {
                let Ok((mut inner, _)) = listener.accept().await else { return };
                let (target, mut shut) = (target.clone(), state.subscribe());
                tokio::spawn(async move {
                    if !*shut.borrow() {
                        return;
                    }
                    let Ok(mut outer) = TcpStream::connect(&target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut inner, &mut outer) => {}
                        _ = shut.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port, open }
    }

    /// The same address, through the gate.
    pub fn url(&self, url: &Url) -> Url {
        let mut url = url.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url
    }

    /// Cuts every connection, and every new one at once.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}
