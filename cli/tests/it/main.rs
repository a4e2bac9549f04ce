//! The integration tests: one binary, real servers, no mocks. Every suite runs on the embedded set
//! (SQLite, local S3, queue in memory) and on the production set (PostgreSQL, Redis, S3), as far as the
//! environment names its services; `scripts/test` starts them. Test names are sentences about behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod admin;
mod ahead;
mod api;
mod aws_clients;
mod backends;
mod balancer;
mod bare;
mod browser;
mod chaos;
mod client;
mod collector;
mod command;
mod connections;
mod containers;
mod crash;
mod doctor;
mod drills;
mod faults;
mod flow;
mod full;
mod gate;
mod hardening;
mod harness;
mod janitor;
mod kills;
mod life;
mod limits;
mod locked;
mod metrics;
mod mortal;
mod openmetrics;
mod options;
mod outage;
mod overtaken;
mod processes;
mod production;
mod programs;
mod proxy;
mod queries;
mod requests;
mod resume;
mod rolling;
mod round_trips;
mod s3_command;
mod sdk;
mod storage;
mod streaming_ahead;
mod suites;
mod traces;
mod waiting;
mod worker;

use harness::{Backend, Suite};
use upflow_core::config::AppSettings;

fn main() {
    // To see why: TEST_LOG=info, with one test and --nocapture.
    if let Ok(log) = std::env::var("TEST_LOG") {
        let (name, production, json_logs) = ("test".to_owned(), false, false);
        let settings = AppSettings { name, production, log, json_logs, collector: None };
        let _ = upflow_core::config::init_logging(&settings, "test");
    }
    if std::env::var_os("TEST_S3_CLEAN").is_some() {
        return production::empty_prefix();
    }
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Tests wait for servers most of the time.
    arguments.test_threads.get_or_insert(4);
    let everywhere: [Suite; 20] = [
        drills::CLOCKS,
        api::SUITE,
        admin::SUITE,
        metrics::SUITE,
        access::SUITE,
        limits::SUITE,
        hardening::SUITE,
        life::SUITE,
        flow::SUITE,
        resume::SUITE,
        storage::SUITE,
        worker::SUITE,
        ahead::SUITE,
        streaming_ahead::SUITE,
        waiting::SUITE,
        requests::SUITE,
        faults::SUITE,
        kills::SUITE,
        chaos::SUITE,
        command::SUITE,
    ];
    let mut trials = Vec::new();
    for suite in everywhere {
        trials.extend(suite.trials(Backend::Embedded));
        trials.extend(suite.trials(Backend::Production));
    }
    for suite in [bare::SUITE, full::SUITE, metrics::BARE, s3_command::SUITE, crash::SUITE] {
        trials.extend(suite.trials(Backend::Embedded));
    }
    trials.extend(access::PROGRAMS.trials(Backend::Production));
    trials.extend(doctor::SUITE.trials(Backend::Production));
    trials.extend(rolling::SUITE.trials(Backend::Production));
    trials.extend(drills::SUITE.trials(Backend::Production));
    trials.extend(traces::SUITE.trials(Backend::Production));
    trials.extend(metrics::PROGRAMS.trials(Backend::Production));
    trials.extend(worker::REDIS.trials(Backend::Production));
    trials.extend(outage::SUITE.trials(Backend::Production));
    trials.extend(processes::SUITE.trials(Backend::Production));
    trials.extend(waiting::PROCESSES.trials(Backend::Production));
    trials.extend(queries::SUITE.trials(Backend::Production));
    trials.extend(overtaken::SUITE.trials(Backend::Production));
    trials.extend(round_trips::SUITE.trials(Backend::Production));
    trials.extend(janitor::SUITE.trials(Backend::Production));
    trials.extend(connections::SUITE.trials(Backend::Production));
    trials.extend(containers::SUITE.trials(Backend::Production));
    trials.extend(sdk::trials());
    // Last, and together: a browser takes the time of other tests.
    trials.extend(browser::trials(Backend::Embedded));
    trials.extend(browser::trials(Backend::Production));
    // A bucket of one's own, named in the environment: `scripts/test --s3-env`.
    if Backend::Bucket.is_there() {
        for suite in [flow::SUITE, storage::SUITE] {
            trials.extend(suite.trials(Backend::Bucket));
        }
    }
    trials.extend(backends::trials());
    trials.extend(aws_clients::trials());
    let ended = libtest_mimic::run(&arguments, trials);
    backends::stop();
    ended.exit();
}
