//! Calls that confirm one chunk each. A client that confirms its chunks one by one, many at once, would have the
//! database read and commit once for each of them; those that come together are one confirm of many chunks.

use std::collections::{BTreeSet, HashMap};

use upflow_core::Context;
use upflow_core::lifecycle::Status;
use upflow_core::uploads::{self as rows, Upload};
use uuid::Uuid;

use super::{Chunk, confirm, takes_chunks};
use crate::problem::Problem;
use crate::routes::Shared;
use crate::validate;

/// A chunk as a call has confirmed it, and the upload as it then is.
#[derive(Debug)]
pub struct Confirmed {
    pub chunk: Chunk,
    pub size: i64,
    pub status: Status,
    pub count: i32,
}

pub type Answer = Result<Confirmed, Problem>;

/// Confirms a chunk, and with it those that others confirm at the time.
pub async fn confirm_one(state: &Shared, upload_id: Uuid, index: i32) -> Answer {
    let shared = state.clone();
    let act = move |indexes: Vec<i32>| {
        let state = shared.clone();
        async move { confirm_each(&state.ctx, upload_id, &indexes).await }
    };
    let answer = state.confirms.call(upload_id, index, act).await;
    answer.unwrap_or_else(|| Err(Problem::panicked()))
}

/// An answer for each index, in their order.
async fn confirm_each(ctx: &Context, upload_id: Uuid, indexes: &[i32]) -> Vec<Answer> {
    let done = confirm_all(ctx, upload_id, indexes).await;
    let answer = |index| match &done {
        Ok(done) => done.answer(index),
        Err(problem) => Err(problem.clone()),
    };
    indexes.iter().map(|&index| answer(index)).collect()
}

/// What a confirm of many calls' chunks came to.
struct Done {
    upload: Upload,
    confirmed: HashMap<i32, Chunk>,
    problems: HashMap<i32, Problem>,
    now: (Status, i32),
}

impl Done {
    fn answer(&self, index: i32) -> Answer {
        if let Some(problem) = self.problems.get(&index) {
            return Err(problem.clone());
        }
        let Some(chunk) = self.confirmed.get(&index).cloned() else {
            return Err(Problem::internal(&format!("nothing became of chunk {index}")));
        };
        let (status, count) = self.now;
        Ok(Confirmed { chunk, size: self.upload.plan().chunk_len(index), status, count })
    }
}

async fn confirm_all(ctx: &Context, upload_id: Uuid, indexes: &[i32]) -> Result<Done, Problem> {
    let upload = rows::find(&ctx.db, upload_id).await?;
    let (mut wanted, mut problems) = (BTreeSet::new(), HashMap::new());
    for &index in indexes {
        match validate::index(index, upload.plan()) {
            Ok(()) => drop(wanted.insert(index)),
            Err(problem) => drop(problems.insert(index, problem)),
        }
    }
    let mut done = Done { now: (upload.status, 0), upload, confirmed: HashMap::new(), problems };
    if wanted.is_empty() {
        return Ok(done);
    }
    let wanted: Vec<i32> = wanted.into_iter().collect();
    let outcome = confirm(ctx, &done.upload, &wanted).await?;
    done.now = outcome.now.unwrap_or(done.now);
    done.confirmed = outcome.confirmed.into_iter().map(|chunk| (chunk.index, chunk)).collect();
    if !outcome.rejected.is_empty() {
        // A chunk that is gone since its upload has ended is not missing.
        let ended = takes_chunks(&rows::find(&ctx.db, upload_id).await?).err();
        done.problems.extend(outcome.rejected.into_iter().map(|rejected| {
            let own = || Problem::new(rejected.code, rejected.detail);
            (rejected.index, ended.clone().unwrap_or_else(own))
        }));
    }
    Ok(done)
}
