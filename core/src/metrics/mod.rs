//! What the process counts and measures, for Prometheus. One registry for each [`crate::Context`]; the API,
//! the worker and [`crate::storage`] write to it, [`Metrics::scrape`] reads what stands in database and queue
//! besides, and [`serve`] shows it on a listener of its own.
//!
//! Labels are bounded: routes come from the table of routes, operations from the SDK, the others from enums.

mod gather;
mod listener;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use listener::serve;

/// Seconds: from a presign, which takes a millisecond, to a long poll, which takes a minute.
const REQUESTS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 60.0];
/// From a HEAD on the same machine to a copy of 5 GiB.
const CALLS: [f64; 12] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];
/// From an empty file to 10,000 parts that are copied at the end.
const ASSEMBLIES: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of a process; clones are the same ones.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Durations<RequestLabels>,
    confirmed_bytes: Counter,
    calls: Durations<CallLabels>,
    assemblies: Durations<AssemblyLabels>,
    janitor: Family<ActionLabels, Counter>,
    uploads: Family<StatusLabels, Gauge>,
    /// Families without labels, so that they can be absent.
    queue_jobs: Family<[(&'static str, &'static str); 0], Gauge>,
    queue_oldest: Family<[(&'static str, &'static str); 0], Gauge<f64, AtomicU64>>,
    connections: Family<ConnectionLabels, Gauge>,
    connections_most: Gauge,
    reachable: Family<PartLabels, Gauge>,
    gathered: tokio::sync::Mutex<Option<tokio::time::Instant>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    operation: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AssemblyLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

/// How an attempt to assemble an upload to its end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssemblyOutcome {
    Completed,
    /// It did not come to an end, for whatever reason; another attempt, or `failed`, follows.
    NotCompleted,
}

/// What a janitor did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JanitorAction {
    Announced,
    Expired,
    CleanedUp,
    RowsDeleted,
}

impl JanitorAction {
    const ALL: [JanitorAction; 4] =
        [Self::Announced, Self::Expired, Self::CleanedUp, Self::RowsDeleted];

    fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Expired => "expired",
            Self::CleanedUp => "cleaned_up",
            Self::RowsDeleted => "rows_deleted",
        }
    }
}

fn durations<L>(buckets: fn() -> Histogram) -> Durations<L>
where
    L: Clone + std::hash::Hash + Eq,
{
    Family::new_with_constructor(buckets)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("upflow");
        let requests: Durations<RequestLabels> = durations(|| Histogram::new(REQUESTS));
        let calls: Durations<CallLabels> = durations(|| Histogram::new(CALLS));
        let assemblies: Durations<AssemblyLabels> = durations(|| Histogram::new(ASSEMBLIES));
        let (confirmed_bytes, janitor) = (Counter::default(), Family::default());
        let (uploads, connections, reachable) =
            (Family::default(), Family::default(), Family::default());
        let (queue_jobs, queue_oldest) = (Family::default(), Family::default());
        let connections_most: Gauge = Gauge::default();
        let seconds = || Unit::Seconds;
        registry.register_with_unit(
            "http_request_duration",
            "Requests of the API by route and status, to the end of their answer",
            seconds(),
            requests.clone(),
        );
        registry.register(
            "confirmed_bytes",
            "Bytes of chunks that were confirmed and were not before",
            confirmed_bytes.clone(),
        );
        registry.register_with_unit(
            "s3_call_duration",
            "Calls to S3 by operation and outcome, each try by itself, to the head of the answer",
            seconds(),
            calls.clone(),
        );
        registry.register_with_unit(
            "assembly_duration",
            "Attempts to assemble an upload to its end",
            seconds(),
            assemblies.clone(),
        );
        registry.register("janitor_actions", "What was done to uploads that nobody asked for: by the janitor, or at once at their end", janitor.clone());
        registry.register(
            "uploads",
            "Uploads in the database by status; every process shows the same",
            uploads.clone(),
        );
        registry.register(
            "queue_jobs",
            "Jobs of the queue, waiting or under way; every process shows the same",
            queue_jobs.clone(),
        );
        registry.register_with_unit(
            "queue_oldest_job_age",
            "How long ago the oldest job of the queue was announced",
            seconds(),
            queue_oldest.clone(),
        );
        registry.register(
            "database_connections",
            "Connections of this process to the database by state",
            connections.clone(),
        );
        registry.register(
            "database_connections_most",
            "How many of them there may be",
            connections_most.clone(),
        );
        registry.register(
            "reachable",
            "Whether database and queue answered this process; what they alone know is absent otherwise",
            reachable.clone(),
        );
        // A counter that has not moved yet is 0 and not absent.
        for action in JanitorAction::ALL {
            drop(janitor.get_or_create(&ActionLabels { action: action.name() }));
        }
        Self(Arc::new(Inner {
            registry,
            requests,
            confirmed_bytes,
            calls,
            assemblies,
            janitor,
            uploads,
            queue_jobs,
            queue_oldest,
            connections,
            connections_most,
            reachable,
            gathered: tokio::sync::Mutex::default(),
        }))
    }
}

impl Metrics {
    /// A request that was answered. `route` is a template, never a path as it came.
    pub fn request(&self, method: &'static str, route: &'static str, status: u16, took: Duration) {
        let labels = RequestLabels { method, route, status };
        self.0.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn confirmed(&self, bytes: i64) {
        self.0.confirmed_bytes.inc_by(bytes.unsigned_abs());
    }

    /// A try of a call to S3. `operation` is the SDK's name of it.
    pub(crate) fn call(&self, operation: &str, outcome: &'static str, took: Duration) {
        let labels = CallLabels { operation: operation.to_owned(), outcome };
        self.0.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn assembly(&self, outcome: AssemblyOutcome, took: Duration) {
        let outcome = match outcome {
            AssemblyOutcome::Completed => "completed",
            AssemblyOutcome::NotCompleted => "not_completed",
        };
        let labels = AssemblyLabels { outcome };
        self.0.assemblies.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn janitor(&self, action: JanitorAction, count: u64) {
        let labels = ActionLabels { action: action.name() };
        self.0.janitor.get_or_create(&labels).inc_by(count);
    }
}
