//! Calls that confirm one chunk each. A client that confirms its chunks one by one, many at once, would have the
//! database read and commit once for each of them; those that come together are one confirm of many chunks.

use std::collections::{BTreeSet, HashMap};

use upflow_core::Context;
use upflow_core::lifecycle::Status;
use upflow_core::uploads::{self as rows, Upload};
use uuid::Uuid;

use super::{Chunk, Outcome, confirm, joint, takes_chunks};
use crate::problem::Problem;
use crate::routes::Shared;
use crate::{validate, verify};

// So few are asked for by a HEAD each: a listing says nothing of checksums.
const _: () = assert!(joint::TOGETHER < verify::HEADS_FOR_A_PAGE);

/// A chunk as a call has confirmed it, and the upload as it then is.
#[derive(Debug)]
pub struct Confirmed {
    pub chunk: Chunk,
    pub status: Status,
    pub count: i32,
}

pub type Confirmation = Result<Confirmed, Problem>;

/// Confirms a chunk, and with it those that others confirm at the time.
pub async fn confirm_one(state: &Shared, upload_id: Uuid, index: i32) -> Confirmation {
    let shared = state.clone();
    let act = move |indexes: Vec<i32>| {
        let state = shared.clone();
        async move { confirm_each(&state.ctx, upload_id, &indexes).await }
    };
    let answer = state.confirms.call(upload_id, index, act).await;
    answer.unwrap_or_else(|| Err(Problem::panicked()))
}

/// An answer for each index, in their order.
async fn confirm_each(ctx: &Context, upload_id: Uuid, indexes: &[i32]) -> Vec<Confirmation> {
    let answers = match rows::find(&ctx.db, upload_id).await {
        Ok(upload) => confirm_all(ctx, upload, indexes).await,
        Err(error) => Answers::none(error.into()),
    };
    indexes.iter().map(|index| answers.of(*index)).collect()
}

/// What became of the chunks of many calls.
struct Answers {
    known: HashMap<i32, Result<Chunk, Problem>>,
    now: (Status, i32),
    /// Of all others.
    rest: Option<Problem>,
}

impl Answers {
    fn none(rest: Problem) -> Self {
        Self { known: HashMap::new(), now: (Status::Initialized, 0), rest: Some(rest) }
    }

    fn of(&self, index: i32) -> Confirmation {
        let (status, count) = self.now;
        match self.known.get(&index) {
            Some(Ok(chunk)) => Ok(Confirmed { chunk: chunk.clone(), status, count }),
            Some(Err(problem)) => Err(problem.clone()),
            None => Err(self
                .rest
                .clone()
                .unwrap_or_else(|| Problem::internal(&format!("nothing became of chunk {index}")))),
        }
    }
}

async fn confirm_all(ctx: &Context, upload: Upload, indexes: &[i32]) -> Answers {
    let plan = upload.plan();
    let (mut wanted, mut known) = (BTreeSet::new(), HashMap::new());
    for &index in indexes {
        match validate::index(index, plan) {
            Ok(()) => drop(wanted.insert(index)),
            Err(problem) => drop(known.insert(index, Err(problem))),
        }
    }
    let wanted: Vec<i32> = wanted.into_iter().collect();
    let outcome = match wanted.as_slice() {
        [] => Ok(Outcome::default()),
        wanted => confirm(ctx, &upload, wanted).await,
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(problem) => return Answers { known, ..Answers::none(problem) },
    };
    let confirmed = outcome.confirmed.into_iter();
    known.extend(confirmed.map(|chunk| (chunk.index, Ok(chunk))));
    if !outcome.rejected.is_empty() {
        // A chunk that is gone since its upload has ended is not missing.
        let ended = match rows::find(&ctx.db, upload.upload_id).await {
            Ok(upload) => takes_chunks(&upload).err(),
            Err(error) => Some(error.into()),
        };
        known.extend(outcome.rejected.into_iter().map(|rejected| {
            let own = || Problem::new(rejected.code, rejected.detail);
            (rejected.index, Err(ended.clone().unwrap_or_else(own)))
        }));
    }
    let now = outcome.now.unwrap_or((upload.status, 0));
    Answers { known, now, rest: None }
}
