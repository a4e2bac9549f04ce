//! Everything at once, at random: clients that forget and come back, API instances that restart or are killed,
//! workers that are killed, messages that come twice or never, connections that break, an S3 that fails, chunks
//! that somebody overwrites or deletes. Then it calms down, and everything that was promised must hold.
//!
//! The seed is printed; `TEST_SEED=… scripts/test -- chaos` takes the same decisions again (not in the same
//! moments), `TEST_CHAOS_SECONDS` goes on for longer.

mod check;
mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::interfaces::KeysInterface;
use futures::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sea_orm::{ConnectionTrait, Database};
use upflow_core::queue::Job;

use crate::harness::{Backend, Options, Stack, Suite};
use crate::mortal::Mortal;
use crate::programs::free_port;
use crate::proxy::{Call, Fault};
use crate::suite;
use client::{Client, Known};

pub const SUITE: Suite = suite! { "chaos":
    whatever_happens_what_was_promised_holds,
};

const CLIENTS: u64 = 4;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn whatever_happens_what_was_promised_holds(stack: Stack) {
    let seed = setting("TEST_SEED").unwrap_or_else(|| rand::rng().random());
    let time = Duration::from_secs(setting("TEST_CHAOS_SECONDS").unwrap_or(15));
    println!("chaos: TEST_SEED={seed}");
    let mut options = Options { proxied: true, ..Options::default() };
    options.worker.lease = Duration::from_secs(2);
    options.worker.jobs = 2;
    options.worker.copies = 2;
    options.s3_timeout = Duration::from_secs(3);
    let stack = stack.sibling(options).await;
    stack.stop_workers().await;
    let mortal: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let apis = vec![stack.url(""), format!("http://{mortal}")];

    let known = Known::default();
    let calm = Arc::new(AtomicBool::new(false));
    stack.proxy().rule(failing(seed, calm.clone()));
    let clients = (0..CLIENTS).map(|number| {
        let client = Client::new(&stack, &apis, seed + number, known.clone(), calm.clone());
        tokio::spawn(client.run())
    });
    let clients: Vec<_> = clients.collect();
    let api = storm(&stack, seed, time, &known, mortal).await;
    calm.store(true, Ordering::Relaxed);
    stack.start_worker();
    stack.start_worker();
    // A panic of a client is one of the test, and names the seed.
    for ended in join_all(clients).await {
        ended.unwrap_or_else(|panic| panic!("TEST_SEED={seed}: {panic}"));
    }
    let uploads = known.all();
    assert!(uploads.len() >= CLIENTS as usize, "TEST_SEED={seed}");
    for upload in &uploads {
        check::upload(&stack, upload, seed).await;
    }
    api.kill().await;
    let ended = uploads.iter().filter(|upload| upload.left_open.is_none()).count();
    println!("chaos: {} uploads, {ended} of them brought to an end", uploads.len());
}

/// What S3 does to one call in twenty, until it is calm.
fn failing(seed: u64, calm: Arc<AtomicBool>) -> impl Fn(&Call) -> Option<Fault> + Send + Sync {
    let random = std::sync::Mutex::new(SmallRng::seed_from_u64(seed));
    move |_| {
        let mut random = random.lock().unwrap();
        if calm.load(Ordering::Relaxed) || !random.random_ratio(1, 20) {
            return None;
        }
        Some(match random.random_range(0..6) {
            0 => Fault::LoseRequest,
            1 => Fault::LoseAnswer,
            2 => Fault::CutAnswer,
            3 => Fault::Refuse(500, "InternalError"),
            4 => Fault::FailAfter(500, "InternalError"),
            _ => Fault::Delay(Duration::from_millis(random.random_range(1..400))),
        })
    }
}

/// Breaks something, again and again. Answers the API that can be killed, which lives on.
async fn storm(
    stack: &Stack,
    seed: u64,
    time: Duration,
    known: &Known,
    address: SocketAddr,
) -> Mortal {
    let mut api = stack.start_mortal_api(address).await;
    let mut random = SmallRng::seed_from_u64(!seed);
    let end = tokio::time::Instant::now() + time;
    let mut workers = vec![stack.start_mortal_worker().await, stack.start_mortal_worker().await];
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..700))).await;
        match random.random_range(0..10) {
            0..4 => {
                let killed = workers.remove(random.random_range(0..workers.len()));
                killed.kill().await;
                workers.push(stack.start_mortal_worker().await);
            }
            4..7 => {
                for _ in 0..random.random_range(1..5) {
                    if let Some(upload_id) = known.any(&mut random) {
                        let _ = stack.ctx().queue.push(Job { upload_id }).await;
                    }
                }
            }
            7 => {
                stack.stop_api().await;
                stack.start_api().await;
                api.kill().await;
                api = stack.start_mortal_api(address).await;
            }
            8 => empty_the_queue(stack).await,
            _ => break_database_connections(stack).await,
        }
    }
    for worker in workers {
        worker.kill().await;
    }
    api
}

async fn empty_the_queue(stack: &Stack) {
    if stack.backend() == Backend::Production {
        let settings = stack.production(|production| production.queue.clone());
        let redis = crate::worker::redis(&settings).await;
        let _: i64 = redis.del(&settings.stream).await.unwrap();
    }
}

async fn break_database_connections(stack: &Stack) {
    if stack.backend() == Backend::Production {
        let url = stack.production(|production| production.database.url.clone());
        let admin = Database::connect(&url).await.unwrap();
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        admin.execute_unprepared(others).await.unwrap();
        admin.close().await.unwrap();
    }
}
