//! The integration tests: one binary, real servers, no mocks. Every suite runs on the embedded set
//! (SQLite, local S3, queue in memory) and on the production set (PostgreSQL, Redis, S3), as far as the
//! environment names its services; `scripts/test` starts them. Test names are sentences about behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod browser;
mod client;
mod command;
mod flow;
mod gate;
mod harness;
mod outage;
mod processes;
mod production;
mod programs;
mod resume;
mod storage;
mod worker;

use harness::{Backend, Suite};

fn main() {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Tests wait for servers most of the time.
    arguments.test_threads.get_or_insert(4);
    let everywhere: [Suite; 6] =
        [api::SUITE, flow::SUITE, resume::SUITE, storage::SUITE, worker::SUITE, command::SUITE];
    let mut trials = Vec::new();
    for suite in everywhere {
        trials.extend(suite.trials(Backend::Embedded));
        trials.extend(suite.trials(Backend::Production));
    }
    trials.extend(command::BARE.trials(Backend::Embedded));
    trials.extend(worker::REDIS.trials(Backend::Production));
    trials.extend(outage::SUITE.trials(Backend::Production));
    trials.extend(processes::SUITE.trials(Backend::Production));
    // Last, and together: a browser takes the time of other tests.
    trials.extend(browser::trials(Backend::Embedded));
    trials.extend(browser::trials(Backend::Production));
    // A bucket of one's own, named in the environment: `scripts/test --s3-env`.
    if Backend::Bucket.is_there() {
        for suite in [flow::SUITE, storage::SUITE] {
            trials.extend(suite.trials(Backend::Bucket));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}
