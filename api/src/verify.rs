//! Whether S3 has what a client says it has sent. Nothing is believed: each chunk is asked for by
//! HeadObject and compared in size and checksum before it counts. Where there is no checksum to compare, a
//! listing says as much of many chunks at once.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use upflow_core::storage::{Listed, ObjectHead, ObjectKey, StorageError, chunk_index, chunks};
use upflow_core::uploads::{self, Chunk, Confirmed, SeenChunk, Upload};
use upflow_core::{Context, plan};

use crate::announce::announce_confirmed;
use crate::problem::{Code, Problem};

/// Up to here a HEAD for each chunk is cheaper than a LIST before.
const HEADS_WITHOUT_LIST: usize = 32;
/// A LIST instead of HEADs has to read all pages of the upload, and to save so many HEADs with each.
pub const HEADS_FOR_A_PAGE: usize = 32;
/// Objects in a page of a listing.
const PAGE: u32 = 1_000;
/// The most HEADs of one call.
const MAX_HEADS: usize = 1_000;

/// Why a chunk is not confirmed.
#[derive(Debug)]
pub struct Rejected {
    pub index: i32,
    pub code: Code,
    pub detail: String,
}

/// What S3 says of some chunks.
#[derive(Debug, Default)]
pub struct Inspection {
    pub seen: Vec<SeenChunk>,
    pub rejected: Vec<Rejected>,
}

/// Asks S3 for these chunks: one by one, a bounded number at once, or, where they are many and none of them
/// has a checksum to compare, with a LIST.
pub async fn inspect(
    ctx: &Context,
    upload: &Upload,
    indexes: &[i32],
) -> Result<Inspection, Problem> {
    let pages = upload.total_chunks.unsigned_abs().div_ceil(PAGE) as usize;
    if indexes.len() < HEADS_FOR_A_PAGE * pages {
        // HEAD needs nothing of the rows: they are read meanwhile.
        let (rows, heads) =
            tokio::join!(rows_of(ctx, upload, indexes), heads(ctx, upload, indexes));
        return Ok(judged(upload, &rows?, heads?));
    }
    let rows = rows_of(ctx, upload, indexes).await?;
    let any = indexes.iter().any(|index| compared(upload, rows.get(index)));
    let stored = match any {
        true => HashMap::new(),
        false => list_chunks(ctx, upload).await?,
    };
    inspect_listed(ctx, upload, indexes, &rows, &stored).await
}

/// The same for chunks of which a listing has just said something: it is enough for those that are there in
/// their size and have no checksum to compare.
async fn inspect_listed(
    ctx: &Context,
    upload: &Upload,
    indexes: &[i32],
    rows: &HashMap<i32, Chunk>,
    stored: &HashMap<i32, Listed>,
) -> Result<Inspection, Problem> {
    let plan = upload.plan();
    let listed = |index: i32| {
        let listed = stored.get(&index).filter(|listed| listed.size == plan.chunk_len(index))?;
        let row = rows.get(&index);
        let before = row.filter(|row| row.etag.as_ref() == Some(&listed.etag));
        (!compared(upload, row)).then(|| SeenChunk {
            index,
            size: listed.size,
            etag: listed.etag.clone(),
            checksum: before.and_then(|row| row.checksum.clone()),
            known: before.is_some_and(|row| row.confirmed_at.is_some()),
        })
    };
    let (mut seen, mut others) = (Vec::new(), Vec::new());
    for &index in indexes {
        match listed(index) {
            Some(chunk) => seen.push(chunk),
            None => others.push(index),
        }
    }
    let mut inspection = judged(upload, rows, heads(ctx, upload, &others).await?);
    inspection.seen.extend(seen);
    inspection.seen.sort_by_key(|seen| seen.index);
    Ok(inspection)
}

/// Whether a checksum of the chunk, or of the whole file, is there to be compared with what S3 keeps, which a
/// listing does not say.
fn compared(upload: &Upload, row: Option<&Chunk>) -> bool {
    upload.checksum.is_some() || row.is_some_and(|row| row.declared_checksum.is_some())
}

async fn rows_of(
    ctx: &Context,
    upload: &Upload,
    indexes: &[i32],
) -> Result<HashMap<i32, Chunk>, Problem> {
    let rows = uploads::chunk_rows(&ctx.db, upload.upload_id, Some(indexes)).await?;
    Ok(rows.into_iter().map(|row| (row.chunk_index, row)).collect())
}

type Heads = Vec<(i32, Option<ObjectHead>)>;

async fn heads(ctx: &Context, upload: &Upload, indexes: &[i32]) -> Result<Heads, StorageError> {
    let heads = stream::iter(indexes.iter().copied()).map(|index| async move {
        let key = ObjectKey::Chunk { upload_id: upload.upload_id, index };
        Ok((index, ctx.storage.head(&key).await?))
    });
    heads.buffer_unordered(ctx.limits.s3_calls_per_request).try_collect().await
}

fn judged(upload: &Upload, rows: &HashMap<i32, Chunk>, heads: Heads) -> Inspection {
    let mut inspection = Inspection::default();
    for (index, head) in heads {
        match judge(upload, index, rows.get(&index), head) {
            Ok(seen) => inspection.seen.push(seen),
            Err(rejected) => inspection.rejected.push(rejected),
        }
    }
    inspection.seen.sort_by_key(|seen| seen.index);
    inspection.rejected.sort_by_key(|rejected| rejected.index);
    inspection
}

fn judge(
    upload: &Upload,
    index: i32,
    row: Option<&Chunk>,
    head: Option<ObjectHead>,
) -> Result<SeenChunk, Rejected> {
    let rejected = |code, detail| Err(Rejected { index, code, detail });
    let Some(head) = head else {
        let detail = format!("chunk {index} is not in storage: send it to its URL, then confirm");
        return rejected(Code::ChunkMissing, detail);
    };
    let expected = upload.plan().chunk_len(index);
    if head.size != expected {
        let detail = format!(
            "chunk {index} has {} bytes in storage and should have {expected}: send it again",
            head.size
        );
        return rejected(Code::ChunkSizeMismatch, detail);
    }
    let declared = row.and_then(|row| row.declared_checksum.clone());
    let stored = head.checksum(upload.checksum_algorithm).map(|checksum| checksum.to_string());
    // Where S3 keeps none: an object that was confirmed with another checksum has not become a new one.
    let before = row.filter(|row| row.etag.as_ref() == Some(&head.etag));
    let known = stored.or_else(|| before.and_then(|row| row.checksum.clone()));
    if let (Some(found), Some(declared)) = (&known, &declared)
        && found != declared
    {
        let detail = format!(
            "chunk {index} has the {} {found} in storage and should have {declared}: send it again",
            upload.checksum_algorithm
        );
        return rejected(Code::ChunkChecksumMismatch, detail);
    }
    let confirmed = before.is_some_and(|row| row.confirmed_at.is_some());
    let checksum = known.or(declared);
    Ok(SeenChunk { index, size: head.size, etag: head.etag, checksum, known: confirmed })
}

/// Marks what was seen as confirmed.
pub async fn confirm(
    ctx: &Context,
    upload: &Upload,
    seen: &[SeenChunk],
    now: DateTime<Utc>,
) -> Result<Confirmed, Problem> {
    let confirmed = uploads::confirm(&ctx.db, upload, seen, ctx.limits.upload_life, now).await?;
    ctx.metrics.confirmed(seen.iter().filter(|seen| !seen.known).map(|seen| seen.size).sum());
    Ok(confirmed)
}

/// Confirms those of the `missing` chunks that are in storage after all. Answers the chunks that are
/// there and wrong, and how many were left for another call; none where this one has not come further.
pub async fn confirm_missing(
    ctx: &Context,
    upload: &Upload,
    missing: &[i32],
    now: DateTime<Utc>,
) -> Result<(Vec<Rejected>, usize), Problem> {
    let mut candidates = missing.to_vec();
    let mut stored = None;
    if candidates.len() > HEADS_WITHOUT_LIST {
        let listed = list_chunks(ctx, upload).await?;
        candidates.retain(|index| listed.contains_key(index));
        stored = Some(listed);
    }
    let left = candidates.len().saturating_sub(MAX_HEADS);
    candidates.truncate(MAX_HEADS);
    if candidates.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let inspection = match stored {
        Some(stored) => {
            let rows = rows_of(ctx, upload, &candidates).await?;
            inspect_listed(ctx, upload, &candidates, &rows, &stored).await?
        }
        None => inspect(ctx, upload, &candidates).await?,
    };
    if inspection.seen.is_empty() {
        return Ok((inspection.rejected, 0));
    }
    confirm(ctx, upload, &inspection.seen, now).await?;
    Ok((inspection.rejected, left))
}

/// Brings the database and the bucket together: confirms what is in storage unconfirmed, and takes
/// back what is confirmed and gone or changed.
pub async fn reconcile(ctx: &Context, upload: &Upload, now: DateTime<Utc>) -> Result<(), Problem> {
    // Read before the listing: a chunk confirmed after it is not missed in an older listing.
    let rows = uploads::chunk_rows(&ctx.db, upload.upload_id, None).await?;
    let stored = list_chunks(ctx, upload).await?;
    let mut known = HashSet::new();
    let (mut gone, mut changed) = (Vec::new(), Vec::new());
    for row in &rows {
        let Some(etag) = row.etag.clone().filter(|_| row.confirmed_at.is_some()) else { continue };
        match stored.get(&row.chunk_index) {
            Some(found) if found.etag == etag => drop(known.insert(row.chunk_index)),
            Some(_) => changed.push((row.chunk_index, etag)),
            None => gone.push((row.chunk_index, etag)),
        }
    }
    let rows = rows.into_iter().map(|row| (row.chunk_index, row)).collect();
    let mut candidates: Vec<i32> =
        stored.keys().copied().filter(|index| !known.contains(index)).collect();
    candidates.sort_unstable();
    let mut bad = HashSet::new();
    for portion in candidates.chunks(MAX_HEADS) {
        let inspection = inspect_listed(ctx, upload, portion, &rows, &stored).await?;
        bad.extend(inspection.rejected.iter().map(|rejected| rejected.index));
        if !inspection.seen.is_empty() {
            let confirmed = confirm(ctx, upload, &inspection.seen, now).await?;
            announce_confirmed(ctx, upload, confirmed, &inspection.seen).await;
        }
    }
    gone.extend(changed.into_iter().filter(|(index, _)| bad.contains(index)));
    uploads::drop_chunks(&ctx.db, upload.upload_id, &gone, now).await?;
    Ok(())
}

/// The chunks of an upload that S3 has, by index. One LIST for each 1,000; objects that are no
/// chunk of this upload are left out, so it is bounded by the plan.
async fn list_chunks(ctx: &Context, upload: &Upload) -> Result<HashMap<i32, Listed>, StorageError> {
    let prefix = chunks(upload.upload_id);
    let mut stored = HashMap::new();
    let mut next = None;
    // Ours are at most 10 pages; strangers under our prefix get as many again.
    for _ in 0..2 * plan::MAX_CHUNKS / 1_000 {
        let page = ctx.storage.list(&prefix, next).await?;
        for object in page.objects {
            if let Some(index) = chunk_index(upload.upload_id, &object.key)
                && upload.plan().has_chunk(index)
            {
                stored.insert(index, object);
            }
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    Ok(stored)
}
