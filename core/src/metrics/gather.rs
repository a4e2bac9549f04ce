//! What is not counted as it happens but read when somebody looks: the rows by status, the queue, the pool.

use std::time::Duration;

use prometheus_client::encoding::text;
use tokio::time::{Instant, timeout};

use super::{ConnectionLabels, Metrics, PartLabels, StatusLabels};
use crate::lifecycle::Status;
use crate::{Context, db, uploads};

/// Counting all rows takes its time where there are millions: however many look, it is done this seldom.
const EVERY: Duration = Duration::from_secs(5);
/// Prometheus gives up after 10 seconds unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(4);

impl Metrics {
    /// All metrics as text: OpenMetrics 1.0, which Prometheus reads.
    pub async fn scrape(&self, ctx: &Context) -> Result<String, std::fmt::Error> {
        self.gather(ctx).await;
        let mut page = String::new();
        text::encode(&mut page, &self.0.registry)?;
        Ok(page)
    }

    async fn gather(&self, ctx: &Context) {
        let Ok(mut gathered) = self.0.gathered.try_lock() else { return };
        self.pool(ctx);
        if gathered.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        let (statuses, queue) = tokio::join!(
            timeout(PATIENCE, uploads::count_by_status(&ctx.db)),
            timeout(PATIENCE, ctx.queue.depth()),
        );
        self.uploads(statuses.ok().and_then(Result::ok));
        self.queue(queue.ok().and_then(Result::ok));
        *gathered = Some(Instant::now());
    }

    fn uploads(&self, found: Option<Vec<(Status, i64)>>) {
        let count = |status| match &found {
            Some(found) => found.iter().find(|(known, _)| *known == status).map_or(0, |(_, n)| *n),
            None => 0,
        };
        // What is not known is absent, and not 0.
        self.0.uploads.clear();
        if found.is_some() {
            for status in Status::ALL {
                let labels = StatusLabels { status: status.name() };
                self.0.uploads.get_or_create(&labels).set(count(status));
            }
        }
        self.reachable("database", found.is_some());
    }

    fn queue(&self, depth: Option<crate::queue::Depth>) {
        self.reachable("queue", depth.is_some());
        self.0.queue_jobs.clear();
        self.0.queue_oldest.clear();
        if let Some(depth) = depth {
            let oldest = depth.oldest.unwrap_or_default().as_secs_f64();
            self.0.queue_jobs.get_or_create(&[]).set(depth.jobs);
            self.0.queue_oldest.get_or_create(&[]).set(oldest);
        }
    }

    fn reachable(&self, part: &'static str, yes: bool) {
        self.0.reachable.get_or_create(&PartLabels { part }).set(i64::from(yes));
    }

    fn pool(&self, ctx: &Context) {
        let pool = db::pool(&ctx.db);
        for (state, count) in [("idle", pool.idle), ("in_use", pool.open - pool.idle)] {
            self.0.connections.get_or_create(&ConnectionLabels { state }).set(count);
        }
        self.0.connections_most.set(pool.most);
    }
}
