//! What of each program's processor time one thing takes, clients and all servers on one machine.

use std::time::Duration;

use super::rows::{Row, Unit};
use super::site::Site;
use crate::programs::{cpu_of_family, servers};

pub struct ProcessorTime {
    programs: Vec<Program>,
}

struct Program {
    name: String,
    process: u32,
    /// When the round began.
    before: Duration,
    /// For each thing, in milliseconds, by round.
    each: Vec<f64>,
}

impl ProcessorTime {
    /// By the API, the worker, PostgreSQL, Redis and the S3 server.
    pub fn of(site: &Site) -> anyhow::Result<ProcessorTime> {
        let ours = [("the API", site.api_process.id()?), ("the worker", site.worker.id()?)];
        let ours = ours.map(|(name, process)| (name.to_owned(), process)).into_iter();
        let store = site.server.process();
        let mut servers = servers()?;
        servers.retain(|(name, _)| store.is_none() || name != "seaweedfs");
        servers.extend(store.map(|process| ("the S3 store".to_owned(), process)));
        let programs = ours.chain(servers).map(|(name, process)| Program {
            name,
            process,
            before: Duration::ZERO,
            each: Vec::new(),
        });
        Ok(ProcessorTime { programs: programs.collect() })
    }

    pub fn begin(&mut self) -> anyhow::Result<()> {
        for program in &mut self.programs {
            program.before = cpu_of_family(program.process)?;
        }
        Ok(())
    }

    /// So many things were done since the beginning.
    pub fn end(&mut self, count: usize) -> anyhow::Result<()> {
        for program in &mut self.programs {
            let taken = cpu_of_family(program.process)?.saturating_sub(program.before);
            program.each.push(taken.as_secs_f64() * 1_000.0 / count as f64);
        }
        Ok(())
    }

    pub fn rows(&self, what: &str, on: &str) -> Vec<Row> {
        let row = |program: &Program| {
            let what = format!("{what}: processor time of {} for each", program.name);
            Row::of(what, on, Unit::Milliseconds, &program.each)
        };
        self.programs.iter().map(row).collect()
    }
}
