//! Figures of several rounds, side by side.

use std::time::Duration;

/// What a figure says.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// Bytes that were moved, as MiB a second.
    Throughput { bytes: u64 },
    /// Requests that were made, a second.
    Requests { count: usize },
    /// How long it took.
    Time,
}

/// One line: what was measured, on two servers, once a round.
pub struct Line {
    pub name: String,
    pub unit: Unit,
    pub ours: Vec<Duration>,
    pub theirs: Vec<Duration>,
}

impl Unit {
    pub fn show(self, time: Duration) -> String {
        let seconds = time.as_secs_f64();
        match self {
            Unit::Throughput { bytes } => {
                format!("{:.0} MiB/s", bytes as f64 / (1024.0 * 1024.0) / seconds)
            }
            Unit::Requests { count } => format!("{:.0} /s", count as f64 / seconds),
            Unit::Time => format!("{:.1} ms", seconds * 1000.0),
        }
    }
}

impl Line {
    pub fn new(name: impl Into<String>, unit: Unit) -> Line {
        Line { name: name.into(), unit, ours: Vec::new(), theirs: Vec::new() }
    }
}

pub fn print(ours: &str, theirs: &str, lines: &[Line]) {
    println!("{:<40}{ours:>14}{theirs:>14}{:>9}   spread", "median of the rounds", "ratio");
    for line in lines {
        let (Some(ours), Some(theirs)) = (median(&line.ours), median(&line.theirs)) else {
            continue;
        };
        println!(
            "{:<40}{:>14}{:>14}{:>9.2}   {} | {}",
            line.name,
            line.unit.show(ours),
            line.unit.show(theirs),
            theirs.as_secs_f64() / ours.as_secs_f64(),
            spread(line.unit, &line.ours),
            spread(line.unit, &line.theirs),
        );
    }
    println!("\nRatio: how many times as fast {ours} is as {theirs}; below 1 it is slower.");
}

pub fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// From the slowest round to the fastest.
pub fn spread(unit: Unit, times: &[Duration]) -> String {
    match (times.iter().max(), times.iter().min()) {
        (Some(slowest), Some(fastest)) => {
            format!("{} to {}", unit.show(*slowest), unit.show(*fastest))
        }
        _ => String::new(),
    }
}
