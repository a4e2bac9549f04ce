//! The generated clients, and schemathesis, against a live server with keys. `scripts/test` generates them and
//! names where they are in TEST_SDKS.

use std::path::PathBuf;
use std::process::Stdio;

use libtest_mimic::Trial;
use tokio::process::Command;
use upflow_api::limits::ClientLimits;

use crate::harness::{Backend, Stack, Suite};
use crate::locked::Locked;
use crate::programs::run;
use crate::suite;

const SUITE: Suite = suite! { "sdk":
    the_typescript_client_uploads_resumes_and_reads_errors,
    the_python_client_uploads_resumes_and_reads_errors,
    schemathesis_finds_nothing_that_the_spec_does_not_say,
};

/// Shown as ignored where the clients were not generated.
pub fn trials() -> Vec<Trial> {
    let there = std::env::var_os("TEST_SDKS").is_some();
    let trials = SUITE.trials(Backend::Production);
    if there {
        return trials;
    }
    trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect()
}

fn generated(rest: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("TEST_SDKS").unwrap()).join(rest)
}

fn command(locked: &Locked, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .env("UPFLOW_SERVER", locked.stack.url(""))
        .env("UPFLOW_API_KEY", &locked.shop);
    command
}

/// What ran has come to its end.
async fn done(command: &mut Command) {
    let ended = run(command).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.ends_with("done\n"), "{}", ended.out);
}

async fn the_typescript_client_uploads_resumes_and_reads_errors(stack: Stack) {
    let locked = Locked::start(&stack, ClientLimits::default()).await;
    done(command(&locked, "node").arg(generated("typescript/out/flow.js"))).await;
}

async fn the_python_client_uploads_resumes_and_reads_errors(stack: Stack) {
    let locked = Locked::start(&stack, ClientLimits::default()).await;
    let mut flow = command(&locked, generated("python/bin/python").to_str().unwrap());
    flow.arg(generated("tests/python/flow.py")).env("PYTHONPATH", generated("clients/python"));
    done(&mut flow).await;
}

async fn schemathesis_finds_nothing_that_the_spec_does_not_say(stack: Stack) {
    // It calls as fast as it can; what it is told to do is not to test the rate.
    let limits = ClientLimits { requests_per_second: None, ..ClientLimits::default() };
    let locked = Locked::start(&stack, limits).await;
    let mut command = command(&locked, generated("python/bin/schemathesis").to_str().unwrap());
    // A key that may call everything.
    command
        .env("UPFLOW_API_KEY", &locked.admin)
        .current_dir(stack.dir())
        .arg("--config-file")
        .arg(generated("tests/schemathesis.toml"))
        .arg("run")
        .arg(locked.stack.url("/openapi.json"));
    let ended = run(&mut command).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
}
