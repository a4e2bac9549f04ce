//! The real programs as child processes: started, watched, killed.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::harness::eventually;

/// How long a program may take to end once it was told to.
const END: Duration = Duration::from_secs(30);

/// A program of the workspace, built beside the test.
pub fn program(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_upflow")).with_file_name(name);
    assert!(path.exists(), "{} is not there: cargo build --workspace", path.display());
    let mut command = Command::new(path);
    // Nothing of the environment of the tests, but what programs need to run at all.
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub async fn run(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(Duration::from_secs(120), command.output());
    let output = output.await.expect("it ends in time").unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program that runs; killed when dropped.
pub struct Running {
    pub child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        listen(child.stdout.take().unwrap(), said.clone());
        listen(child.stderr.take().unwrap(), said.clone());
        Self { child, said }
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said this.
    pub async fn says(&mut self, text: &str) -> String {
        let said = self.said.clone();
        let child = &mut self.child;
        let look = || Some(said.lock().unwrap().clone()).filter(|said| said.contains(text));
        loop {
            if let Some(said) = look() {
                return said;
            }
            if let Some(status) = child.try_wait().unwrap() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                return look().unwrap_or_else(|| {
                    panic!("{status} before {text:?}: {}", said.lock().unwrap())
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// As `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal, `TERM` or `INT`.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended, and answers its exit code.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(END, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end: {}", self.said())).unwrap();
        (status.code(), self.said())
    }
}

fn listen(stream: impl AsyncRead + Unpin + Send + 'static, said: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    });
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until the API at this port serves.
pub async fn serves(http: &reqwest::Client, port: u16) {
    eventually("the API serves", || async {
        let answer = http.get(format!("http://127.0.0.1:{port}/health/live")).send().await;
        answer.is_ok_and(|answer| answer.status() == 200).then_some(())
    })
    .await;
}
