//! Chunks and multipart uploads in the bucket of uploads that have no row in this database: those of
//! another deployment, of a database that was restored or lost, or of rows that somebody deleted. The
//! janitor counts them and touches none; they go by an explicit command with an age. Finished files are no
//! orphans: their rows go after the retention, and they stay.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Context;
use crate::storage::{Filename, ListedMultipart, ObjectKey, StorageError, chunks};
use crate::uploads;

/// The most orphans that one look over the whole bucket finds; what is beyond is found after these are gone.
const MOST: usize = 10_000;
/// Pages of chunks of one upload: it has 10,000 at most.
const PAGES: usize = 10;
/// Orphans of one page that are looked at at once.
const AT_ONCE: usize = 16;

/// What is left of an upload without a row.
#[derive(Debug, Default)]
pub struct Orphan {
    pub chunks: usize,
    pub bytes: i64,
    pub multiparts: Vec<ListedMultipart>,
    /// When something of it was last written, as far as the server says.
    pub touched: Option<DateTime<Utc>>,
}

/// Where a look over the bucket goes on: first the chunks, then the multipart uploads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    Chunks(Option<String>),
    Multiparts(Option<(String, String)>),
}

/// What has become of an orphan that was to be removed.
#[derive(Debug)]
pub enum Removal {
    Removed(Orphan),
    /// Something of it was written since, or may have been: it is kept.
    TooYoung(Orphan),
    /// It has a row: it is no orphan.
    Known,
    /// Nothing is there.
    Nothing,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Uploads(#[from] uploads::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Orphan {
    fn is_nothing(&self) -> bool {
        self.chunks == 0 && self.multiparts.is_empty()
    }

    fn merge(&mut self, other: Orphan) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.multiparts.extend(other.multiparts);
        self.touched = self.touched.max(other.touched);
    }
}

/// All orphans, by upload id, up to a bound.
pub async fn find(ctx: &Context) -> Result<BTreeMap<Uuid, Orphan>, Error> {
    let mut orphans: BTreeMap<Uuid, Orphan> = BTreeMap::new();
    let mut place = Some(Place::Chunks(None));
    while let Some(from) = place {
        let (found, next) = page(ctx, from).await?;
        for (id, orphan) in found {
            if orphans.contains_key(&id) || orphans.len() < MOST {
                orphans.entry(id).or_default().merge(orphan);
            }
        }
        place = next;
    }
    Ok(orphans)
}

/// The orphans of one page of a listing, and where the next one begins. An orphan that has chunks and
/// multipart uploads is on two pages.
pub async fn page(
    ctx: &Context,
    from: Place,
) -> Result<(BTreeMap<Uuid, Orphan>, Option<Place>), Error> {
    match from {
        Place::Chunks(token) => {
            let (ids, next) = ctx.storage.ids_with_chunks(token).await?;
            // Looked up after the listing: a row is there before the first object of its upload is.
            let unknown = unknown(ctx, ids.into_iter().collect()).await?;
            let found: BTreeMap<Uuid, Orphan> = stream::iter(unknown)
                .map(|id| async move { Ok::<_, Error>((id, with_chunks(ctx, id).await?)) })
                .buffer_unordered(AT_ONCE)
                .try_filter(|(_, orphan)| std::future::ready(!orphan.is_nothing()))
                .try_collect()
                .await?;
            let next = next.map_or(Place::Multiparts(None), |token| Place::Chunks(Some(token)));
            Ok((found, Some(next)))
        }
        Place::Multiparts(marker) => {
            let listed = ctx.storage.list_multiparts("uploads/", marker).await?;
            let mut found: BTreeMap<Uuid, Orphan> = BTreeMap::new();
            for multipart in listed.uploads {
                if let Some(id) = upload_of(&multipart.key) {
                    found.entry(id).or_default().merge(of_multipart(multipart));
                }
            }
            let unknown = unknown(ctx, found.keys().copied().collect()).await?;
            found.retain(|id, _| unknown.contains(id));
            Ok((found, listed.next.map(|next| Place::Multiparts(Some(next)))))
        }
    }
}

/// Removes what is left of this upload, if it has no row and nothing of it was written for `age`.
pub async fn remove(
    ctx: &Context,
    id: Uuid,
    age: Duration,
    now: DateTime<Utc>,
) -> Result<Removal, Error> {
    let mut orphan = with_chunks(ctx, id).await?;
    let mut marker = None;
    loop {
        // By the common prefix: some servers take a longer one for nothing but a whole key.
        let listed = ctx.storage.list_multiparts("uploads/", marker).await?;
        let ours = listed.uploads.into_iter().filter(|one| upload_of(&one.key) == Some(id));
        ours.for_each(|multipart| orphan.merge(of_multipart(multipart)));
        marker = listed.next;
        if marker.is_none() {
            break;
        }
    }
    if unknown(ctx, vec![id]).await?.is_empty() {
        return Ok(Removal::Known);
    }
    if orphan.is_nothing() {
        return Ok(Removal::Nothing);
    }
    if orphan.touched.is_none_or(|touched| touched > now - age) {
        return Ok(Removal::TooYoung(orphan));
    }
    for multipart in &orphan.multiparts {
        let name = multipart.key.rsplit('/').next().unwrap_or_default();
        let Ok(filename) = Filename::parse(name) else { continue };
        let key = ObjectKey::Final { upload_id: id, filename };
        ctx.storage.abort_multipart(&key, &multipart.upload_id).await?;
    }
    ctx.storage.delete_all(&chunks(id)).await?;
    Ok(Removal::Removed(orphan))
}

/// Those of the ids that have no row. The nil id is that of trials, which have their own broom.
async fn unknown(ctx: &Context, mut ids: Vec<Uuid>) -> Result<Vec<Uuid>, Error> {
    let known = uploads::known(&ctx.db, &ids).await?;
    ids.retain(|id| !id.is_nil() && !known.contains(id));
    Ok(ids)
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

fn of_multipart(multipart: ListedMultipart) -> Orphan {
    let touched = multipart.initiated;
    Orphan { multiparts: vec![multipart], touched, ..Orphan::default() }
}

fn upload_of(key: &str) -> Option<Uuid> {
    key.strip_prefix("uploads/")?.split('/').next()?.parse().ok()
}
