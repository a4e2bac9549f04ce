//! Chunks and multipart uploads in the bucket of uploads that have no row in this database: those of
//! another deployment, of a database that was restored or lost, or of rows that somebody deleted. The
//! janitor counts them and touches none; they go by an explicit command with an age. Finished files are no
//! orphans: their rows go after the retention, and they stay.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use upflow_core::Context;
use upflow_core::storage::{Filename, ListedMultipart, ObjectKey, StorageError, chunks};
use upflow_core::uploads;
use uuid::Uuid;

use crate::worker::JobError;

/// The most orphans that one look finds; what is beyond is found after these are gone.
const MOST: usize = 10_000;
/// Pages of chunks of one upload: it has 10,000 at most.
const PAGES: usize = 10;

/// What is left of an upload without a row.
#[derive(Debug, Default)]
pub struct Orphan {
    pub chunks: usize,
    pub bytes: i64,
    pub multiparts: Vec<ListedMultipart>,
    /// When something of it was last written, as far as the server says.
    pub touched: Option<DateTime<Utc>>,
}

/// All orphans, by upload id, up to a bound.
pub async fn find(ctx: &Context) -> Result<BTreeMap<Uuid, Orphan>, JobError> {
    let mut orphans = BTreeMap::new();
    let mut next = None;
    loop {
        let (ids, more) = ctx.storage.ids_with_chunks(next).await?;
        // Looked up after the listing: a row is there before the first object of its upload is.
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let known = uploads::known(&ctx.db, &ids).await?;
        for id in ids.into_iter().filter(|id| !known.contains(id)) {
            let orphan = with_chunks(ctx, id).await?;
            if orphan.chunks > 0 && orphans.len() < MOST {
                orphans.insert(id, orphan);
            }
        }
        next = more;
        if next.is_none() {
            break;
        }
    }
    add_multiparts(ctx, &mut orphans).await?;
    Ok(orphans)
}

async fn with_chunks(ctx: &Context, id: Uuid) -> Result<Orphan, StorageError> {
    let mut orphan = Orphan::default();
    let mut next = None;
    for _ in 0..PAGES {
        let page = ctx.storage.list(&chunks(id), next).await?;
        for object in page.objects {
            orphan.chunks += 1;
            orphan.bytes += object.size;
            orphan.touched = orphan.touched.max(object.modified);
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    Ok(orphan)
}

async fn add_multiparts(
    ctx: &Context,
    orphans: &mut BTreeMap<Uuid, Orphan>,
) -> Result<(), JobError> {
    let mut next = None;
    loop {
        let page = ctx.storage.list_multiparts("uploads/", next).await?;
        let found: Vec<(Uuid, ListedMultipart)> =
            page.uploads.into_iter().filter_map(|one| Some((upload_of(&one.key)?, one))).collect();
        let ids: Vec<Uuid> = found.iter().map(|(id, _)| *id).collect();
        let known = uploads::known(&ctx.db, &ids).await?;
        for (id, multipart) in found.into_iter().filter(|(id, _)| !known.contains(id)) {
            if orphans.contains_key(&id) || orphans.len() < MOST {
                let orphan = orphans.entry(id).or_default();
                orphan.touched = orphan.touched.max(multipart.initiated);
                orphan.multiparts.push(multipart);
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

fn upload_of(key: &str) -> Option<Uuid> {
    key.strip_prefix("uploads/")?.split('/').next()?.parse().ok()
}

/// Removes the orphan if nothing of it was touched for `age`, and it still has no row. False: it stays.
pub async fn remove(
    ctx: &Context,
    id: Uuid,
    orphan: &Orphan,
    age: Duration,
    now: DateTime<Utc>,
) -> Result<bool, JobError> {
    let old = orphan.touched.is_some_and(|touched| touched <= now - age);
    if !old || uploads::known(&ctx.db, &[id]).await?.contains(&id) {
        return Ok(false);
    }
    for multipart in &orphan.multiparts {
        let name = multipart.key.rsplit('/').next().unwrap_or_default();
        let Ok(filename) = Filename::parse(name) else { continue };
        let key = ObjectKey::Final { upload_id: id, filename };
        ctx.storage.abort_multipart(&key, &multipart.upload_id).await?;
    }
    ctx.storage.delete_all(&chunks(id)).await?;
    Ok(true)
}
