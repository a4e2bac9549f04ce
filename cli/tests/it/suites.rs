//! Suites: tests that run on any backend, each with a stack of its own that is taken down whatever happens.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Options, Stack};
use crate::production::services;

/// The longest that one test may take.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// SQLite, local S3, queue in memory.
    Embedded,
    /// PostgreSQL, Redis, and an S3 server on loopback.
    Production,
    /// PostgreSQL, Redis, and the bucket of the environment.
    Bucket,
}

type Test = fn(Stack) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tests that run on any backend.
#[derive(Clone, Copy)]
pub struct Suite {
    pub name: &'static str,
    pub tests: &'static [(&'static str, Test)],
}

/// Makes a [`Suite`] of `async fn(Stack)`s.
#[macro_export]
macro_rules! suite {
    ($name:literal: $($test:ident,)*) => {
        $crate::harness::Suite {
            name: $name,
            tests: &[$((stringify!($test), |stack| Box::pin($test(stack)))),*],
        }
    };
}

impl Suite {
    pub fn trials(self, backend: Backend) -> Vec<Trial> {
        let (there, required) = (backend.is_there(), backend.is_required());
        let tests = self.tests.iter().map(|&(test, run)| {
            let name = format!("{}::{}::{test}", backend.name(), self.name);
            let trial = Trial::test(name, move || run_test(backend, run));
            // Never passed where a service is missing; and with `scripts/test` never left out.
            trial.with_ignored_flag(!there && !required)
        });
        tests.collect()
    }
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Embedded => "embedded",
            Backend::Production => "production",
            Backend::Bucket => "bucket",
        }
    }

    pub fn is_there(self) -> bool {
        match self {
            Backend::Embedded => true,
            Backend::Production => services().is_some(),
            Backend::Bucket => std::env::var_os("TEST_S3_ENV").is_some(),
        }
    }

    fn is_required(self) -> bool {
        self == Backend::Production && std::env::var_os("TEST_REQUIRE_SERVICES").is_some()
    }
}

fn run_test(backend: Backend, test: Test) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failed::from(error.to_string()))?;
    let outcome = runtime.block_on(async {
        let stack = Stack::start(backend, Options::default()).await;
        let run = AssertUnwindSafe(test(stack.clone())).catch_unwind();
        let outcome = match tokio::time::timeout(TEST_TIMEOUT, run).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(panic)) => Err(text_of(panic)),
            Err(_) => Err(format!("took longer than {TEST_TIMEOUT:?}")),
        };
        stack.tear_down().await;
        outcome
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome.map_err(Failed::from)
}

fn text_of(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the test panicked".to_owned())
}
