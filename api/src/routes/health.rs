//! Whether the process lives, and whether it can serve: for load balancers, which may ask often and have no
//! key, so a look at what it needs is shared by all who ask in the same second.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use poem::http::StatusCode;
use poem::web::{Data, Json};
use poem::{EndpointExt, IntoResponse, Response, Route, get, handler};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use upflow_core::seldom::Seldom;
use upflow_core::{Context, db};

use super::Shared;

/// How long a dependency may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long what was seen is told.
const FRESH: Duration = Duration::from_secs(1);

/// The routes, below `/health`.
pub fn routes(state: Shared) -> Route {
    Route::new().at("/live", get(live)).at("/ready", get(ready).data(state))
}

/// The process runs.
#[handler]
fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// The process can serve: database, storage and queue answer. Why one does not is in the log.
#[handler]
async fn ready(state: Data<&Shared>) -> Response {
    let Seen { database, storage, queue } = state.sight.look(&state.ctx).await;
    let word = |ok: bool| if ok { "ok" } else { "unavailable" };
    let all = database && storage && queue;
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": word(all),
        "database": word(database),
        "storage": word(storage),
        "queue": word(queue),
    });
    let answer = Json(body).with_status(status);
    if all { answer.into_response() } else { answer.with_header("retry-after", 2).into_response() }
}

/// Which of them answer.
#[derive(Debug, Clone, Copy)]
struct Seen {
    database: bool,
    storage: bool,
    queue: bool,
}

/// What was seen last, and when.
pub struct Sight {
    looking: Semaphore,
    last: Mutex<Option<(Instant, Seen)>>,
}

impl Default for Sight {
    fn default() -> Self {
        Self { looking: Semaphore::new(1), last: Mutex::default() }
    }
}

impl Sight {
    async fn look(&self, ctx: &Context) -> Seen {
        // One looks; whoever has waited for it is told the same. The semaphore is never closed.
        let _turn = self.looking.acquire().await.ok();
        if let Some(seen) = self.fresh() {
            return seen;
        }
        let (database, storage, queue) = tokio::join!(
            check("database", &DATABASE, db::ping(&ctx.db)),
            check("storage", &STORAGE, ctx.storage.check_bucket()),
            check("queue", &QUEUE, ctx.queue.ping()),
        );
        let seen = Seen { database, storage, queue };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), seen));
        seen
    }

    fn fresh(&self) -> Option<Seen> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(at, _)| at.elapsed() < FRESH).map(|(_, seen)| seen)
    }
}

/// Asked every few seconds, for as long as it is away.
static DATABASE: Seldom = Seldom::new();
static STORAGE: Seldom = Seldom::new();
static QUEUE: Seldom = Seldom::new();

async fn check<E: std::fmt::Display>(
    part: &'static str,
    seldom: &Seldom,
    ping: impl Future<Output = Result<(), E>>,
) -> bool {
    let why = match tokio::time::timeout(CHECK_TIMEOUT, ping).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {CHECK_TIMEOUT:?}"),
    };
    if let Some(more) = seldom.again() {
        tracing::warn!(part, error = why, more, "not ready");
    }
    false
}
