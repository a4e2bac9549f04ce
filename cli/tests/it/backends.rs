//! What S3 is, held against the local store and SeaweedFS alike: one assertion for both wherever AWS's
//! documented behaviour is one. It talks to the server itself, by the AWS SDK and, where an SDK would not
//! send such a thing, by signed HTTP of its own; nothing of UpFlow is in between.
//!
//! Where SeaweedFS does otherwise, the test names the difference, and asserts it: see `difference`.

mod access;
mod conditions;
mod copies;
mod cors;
mod difference;
mod integrity;
mod keys;
mod listings;
mod local;
mod multipart;
mod objects;
mod refusals;
mod server;
mod signing;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use libtest_mimic::{Failed, Trial};

pub use local::stop;
pub use server::client;
use server::{Kind, Server};

/// The longest that one test may take.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

type Test = fn(Arc<Server>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
type Tests = &'static [(&'static str, Test)];

/// Makes a list of tests of `async fn(Arc<Server>)`s.
macro_rules! tests {
    ($($test:ident,)*) => {
        &[$((stringify!($test), |s3| Box::pin($test(s3)))),*]
    };
}
use tests;

/// Every test on both servers.
pub fn trials() -> Vec<Trial> {
    let files: [(&str, Tests); 10] = [
        ("objects", objects::TESTS),
        ("integrity", integrity::TESTS),
        ("conditions", conditions::TESTS),
        ("keys", keys::TESTS),
        ("listings", listings::TESTS),
        ("multipart", multipart::TESTS),
        ("refusals", refusals::TESTS),
        ("copies", copies::TESTS),
        ("access", access::TESTS),
        ("cors", cors::TESTS),
    ];
    let mut trials = Vec::new();
    for kind in [Kind::Local, Kind::SeaweedFs] {
        let there = kind.is_there();
        let required = std::env::var_os("TEST_REQUIRE_SERVICES").is_some();
        for (file, tests) in files {
            trials.extend(tests.iter().map(|&(test, run)| {
                let name = format!("{}::backends::{file}::{test}", kind.name());
                let trial = Trial::test(name, move || run_test(kind, run));
                trial.with_ignored_flag(!there && !required)
            }));
        }
    }
    trials
}

fn run_test(kind: Kind, test: Test) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failed::from(error.to_string()))?;
    let outcome = runtime.block_on(async {
        let s3 = Arc::new(Server::start(kind).await);
        // A panic has told its place and cause on standard error already.
        let run = AssertUnwindSafe(test(s3.clone())).catch_unwind();
        let ended = tokio::time::timeout(TEST_TIMEOUT, run).await;
        let found = s3.tear_down().await;
        match ended {
            Ok(Ok(())) if found.is_empty() => Ok(()),
            Ok(Ok(())) => Err(found.join("\n")),
            Ok(Err(panic)) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                Err(format!("{}\npanicked: {text}", found.join("\n")))
            }
            Err(_) => Err(format!("took longer than {TEST_TIMEOUT:?}")),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome.map_err(Failed::from)
}
