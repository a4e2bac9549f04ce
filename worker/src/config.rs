//! How the worker works.

use std::time::Duration;

use upflow_core::config::Faults;

/// What a worker takes beside the parts it streams: the program itself, 10,000 rows, the buffers of its
/// connections. `bench/assembly` measures it.
const OWN_MEMORY_MIB: usize = 48;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Worker")]
pub struct WorkerArgs {
    /// Uploads this worker assembles at once
    #[arg(long, env = "UPFLOW_WORKER_JOBS", default_value = "4")]
    pub worker_jobs: String,
    /// Part copies of one upload that are under way at once
    #[arg(long, env = "UPFLOW_COPIES", default_value = "16")]
    pub copies: String,
    /// MiB of memory that the worker may take while it streams parts (chunks below 5 MiB): 48 for itself,
    /// the rest for the parts
    #[arg(long, env = "UPFLOW_STREAM_MEMORY_MIB", default_value = "64")]
    pub stream_memory_mib: String,
    /// How long a silent worker keeps an upload before another takes over
    #[arg(long, env = "UPFLOW_LEASE", default_value = "60s")]
    pub lease: String,
    /// Attempts to assemble an upload before it has failed: 500 last for about 16 hours without S3. What S3
    /// refuses outright is tried ten times at most
    #[arg(long, env = "UPFLOW_ATTEMPTS", default_value = "500")]
    pub attempts: String,
    /// How long after an upload has ended, and its last URL, requests under way may still land; the bucket is
    /// looked at again then
    #[arg(long, env = "UPFLOW_CLEANUP_GRACE", default_value = "15m")]
    pub cleanup_grace: String,
    /// How often the janitor looks round
    #[arg(long, env = "UPFLOW_JANITOR_INTERVAL", default_value = "30s")]
    pub janitor_interval: String,
    /// How often the bucket is searched for chunks that no upload knows; 0s never. One LIST for each 1,000
    /// files in it
    #[arg(long, env = "UPFLOW_ORPHAN_INTERVAL", default_value = "24h")]
    pub orphan_interval: String,
}

#[derive(Debug, Clone)]
pub struct WorkerSettings {
    pub jobs: usize,
    pub copies: usize,
    /// Bytes of the parts that are streamed, those of all uploads together.
    pub stream_memory: usize,
    pub lease: Duration,
    pub attempts: i32,
    pub cleanup_grace: Duration,
    pub janitor_interval: Duration,
    /// Zero: never.
    pub orphan_interval: Duration,
}

impl WorkerArgs {
    pub fn check(self, faults: &mut Faults) -> Option<WorkerSettings> {
        let second = Duration::from_secs(1);
        let jobs = faults.number("UPFLOW_WORKER_JOBS", &self.worker_jobs, 1..=1_000);
        let copies = faults.number("UPFLOW_COPIES", &self.copies, 1..=1_000);
        let memory: Option<usize> =
            faults.number("UPFLOW_STREAM_MEMORY_MIB", &self.stream_memory_mib, 64..=65_536);
        // Shorter than a few heartbeats and pauses of the database, leases would be lost all the time.
        let lease = faults.duration("UPFLOW_LEASE", &self.lease, second..=3_600 * second);
        let attempts = faults.number("UPFLOW_ATTEMPTS", &self.attempts, 1..=100_000);
        let grace = faults.duration(
            "UPFLOW_CLEANUP_GRACE",
            &self.cleanup_grace,
            second..=7 * 24 * 3_600 * second,
        );
        let interval = faults.duration(
            "UPFLOW_JANITOR_INTERVAL",
            &self.janitor_interval,
            second / 10..=3_600 * second,
        );
        let orphans = faults.duration(
            "UPFLOW_ORPHAN_INTERVAL",
            &self.orphan_interval,
            Duration::ZERO..=365 * 24 * 3_600 * second,
        );
        Some(WorkerSettings {
            jobs: jobs?,
            copies: copies?,
            stream_memory: memory?.saturating_sub(OWN_MEMORY_MIB) * 1024 * 1024,
            lease: lease?,
            attempts: attempts?,
            cleanup_grace: grace?,
            janitor_interval: interval?,
            orphan_interval: orphans?,
        })
    }
}
