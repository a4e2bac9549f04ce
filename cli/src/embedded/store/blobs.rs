//! Blobs: files of immutable bytes that objects and parts are made of.
//!
//! An object's or a part's record lists pieces of blobs, and every piece listed is one reference. A copy
//! is one more reference, never a second set of bytes. The records are the truth and the counts are made
//! from them at start, so a crash can leave a blob that nobody refers to, which the next start removes,
//! but never a record without its bytes: a blob is durable before a record names it, and is removed only
//! after the removal of the last record is durable.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::durable;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(Uuid);

/// A run of bytes of one blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub blob: BlobId,
    pub offset: u64,
    pub length: u64,
}

pub struct Blobs {
    folder: PathBuf,
    table: Mutex<HashMap<BlobId, Entry>>,
    used: AtomicU64,
    limit: AtomicU64,
    /// The limit has refused something since anything was removed: told once.
    full: AtomicBool,
    /// Held as long as anything may write: two processes would remove each other's blobs.
    _lock: File,
}

#[derive(Clone, Copy)]
struct Entry {
    references: u32,
    size: u64,
}

impl Blobs {
    pub fn new(folder: PathBuf, limit: Option<u64>, lock: File) -> io::Result<Blobs> {
        durable::create_fan(&folder)?;
        let blobs = Blobs {
            folder,
            table: Mutex::default(),
            used: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
            _lock: lock,
        };
        blobs.set_limit(limit);
        Ok(blobs)
    }

    pub fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The folders that hold the files, for the sweep at start.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Counts the references of a record that was found at start.
    pub fn count(&self, pieces: &[Piece]) {
        let mut table = self.table();
        for piece in pieces {
            table.entry(piece.blob).or_insert(Entry { references: 0, size: 0 }).references += 1;
        }
    }

    /// Notes the size of a file that was found at start. False if nothing refers to it.
    pub fn found(&self, id: BlobId, size: u64) -> bool {
        match self.table().get_mut(&id) {
            Some(entry) => {
                entry.size = size;
                self.used.fetch_add(size, Ordering::Relaxed);
                true
            }
            None => false,
        }
    }

    /// How many blobs are referred to.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Fails if so many more bytes would not fit under the limit.
    pub fn check_room(&self, bytes: u64) -> io::Result<()> {
        self.with_more(self.used.load(Ordering::Relaxed), bytes)
            .map(drop)
            .ok_or_else(|| self.is_full())
    }

    fn is_full(&self) -> io::Error {
        if !self.full.swap(true, Ordering::Relaxed) {
            let (used, limit) =
                (self.used.load(Ordering::Relaxed), self.limit.load(Ordering::Relaxed));
            tracing::warn!(
                used,
                limit,
                "the store is full: raise UPFLOW_S3_MAX_BYTES, or end uploads"
            );
        }
        io::ErrorKind::StorageFull.into()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| self.with_more(used, bytes))
            .map(drop)
            .map_err(|_| self.is_full())
    }

    fn with_more(&self, used: u64, bytes: u64) -> Option<u64> {
        used.checked_add(bytes).filter(|used| *used <= self.limit.load(Ordering::Relaxed))
    }

    /// One more reference to each piece, for as long as the answer lives. None if one of them is gone,
    /// because the record they were read from has been replaced meanwhile.
    pub fn hold(self: &Arc<Self>, pieces: &[Piece]) -> Option<Held> {
        let mut table = self.table();
        if !pieces.iter().all(|piece| table.contains_key(&piece.blob)) {
            return None;
        }
        for piece in pieces {
            if let Some(entry) = table.get_mut(&piece.blob) {
                entry.references += 1;
            }
        }
        drop(table);
        Some(self.take_over(pieces))
    }

    /// Takes over the references that a record held, once that record is gone for good.
    pub fn take_over(self: &Arc<Self>, pieces: &[Piece]) -> Held {
        Held { blobs: self.clone(), ids: pieces.iter().map(|piece| piece.blob).collect() }
    }

    pub fn open(&self, id: BlobId) -> io::Result<File> {
        File::open(self.path(id))
    }

    pub fn path(&self, id: BlobId) -> PathBuf {
        let name = id.0.simple().to_string();
        self.folder.join(&name[..2]).join(name)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<BlobId, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops references and answers which blobs nobody refers to any more.
    fn forget(&self, ids: &[BlobId]) -> Vec<(BlobId, u64)> {
        let mut table = self.table();
        let mut orphans = Vec::new();
        for id in ids {
            let Some(entry) = table.get_mut(id) else { continue };
            entry.references -= 1;
            if entry.references == 0 {
                orphans.push((*id, entry.size));
                table.remove(id);
            }
        }
        orphans
    }

    /// Removes files that nobody refers to. What drops the last reference may be on the reactor, such as
    /// the end of a reader's stream, where no file should be removed.
    fn remove(self: &Arc<Self>, orphans: Vec<(BlobId, u64)>) {
        let blobs = self.clone();
        let remove = move || {
            for (id, size) in orphans {
                match durable::remove_if_there(&blobs.path(id)) {
                    Ok(()) => {
                        blobs.used.fetch_sub(size, Ordering::Relaxed);
                        blobs.full.store(false, Ordering::Relaxed);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a blob that nobody needs stays until the next start")
                    }
                }
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// References that are given back when this is dropped.
#[must_use]
pub struct Held {
    blobs: Arc<Blobs>,
    ids: Vec<BlobId>,
}

impl Held {
    /// Leaves the references to a record that is durable now (or to the next start, where it is unknown
    /// whether an old record is durably gone).
    pub fn keep(mut self) {
        self.ids.clear();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let orphans = self.blobs.forget(&self.ids);
        if !orphans.is_empty() {
            self.blobs.remove(orphans);
        }
    }
}

/// A blob while its bytes come in. Dropped before `finish`, it leaves nothing.
pub struct BlobWriter {
    blobs: Arc<Blobs>,
    id: BlobId,
    file: File,
    size: u64,
    finished: bool,
}

impl BlobWriter {
    pub fn create(blobs: &Arc<Blobs>) -> io::Result<BlobWriter> {
        let id = BlobId(Uuid::new_v4());
        let file = OpenOptions::new().write(true).create_new(true).open(blobs.path(id))?;
        Ok(BlobWriter { blobs: blobs.clone(), id, file, size: 0, finished: false })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.blobs.reserve(length)?;
        self.size += length;
        self.file.write_all(bytes)
    }

    /// Makes the blob durable.
    pub fn finish(mut self) -> io::Result<(Piece, Held)> {
        self.file.sync_data()?;
        if let Some(folder) = self.blobs.path(self.id).parent() {
            durable::sync_folder(folder)?;
        }
        self.finished = true;
        self.blobs.table().insert(self.id, Entry { references: 1, size: self.size });
        let piece = Piece { blob: self.id, offset: 0, length: self.size };
        let held = self.blobs.take_over(std::slice::from_ref(&piece));
        Ok((piece, held))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.blobs.remove(vec![(self.id, self.size)]);
        }
    }
}

/// Reads consecutive pieces as one run of bytes. Holds them while it lives.
pub struct PieceReader {
    pieces: std::vec::IntoIter<Piece>,
    current: Option<(File, u64)>,
    held: Held,
}

impl PieceReader {
    pub fn new(pieces: Vec<Piece>, held: Held) -> PieceReader {
        PieceReader { pieces: pieces.into_iter(), current: None, held }
    }

    /// The next block of at most `limit` bytes; empty at the end.
    pub fn read_block(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        loop {
            if let Some((file, left)) = &mut self.current
                && *left > 0
            {
                let length = usize::try_from(*left).map_or(limit, |left| left.min(limit));
                // In one call: `read_to_end` would begin with 8 KiB and grow from there in every block.
                let mut block = vec![0; length];
                file.read_exact(&mut block)?;
                *left -= length as u64;
                return Ok(block);
            }
            let Some(piece) = self.pieces.next() else { return Ok(Vec::new()) };
            let mut file = self.held.blobs.open(piece.blob)?;
            file.seek(SeekFrom::Start(piece.offset))?;
            self.current = Some((file, piece.length));
        }
    }
}

/// The pieces that make up the given range of the bytes.
pub fn cut(pieces: &[Piece], range: std::ops::Range<u64>) -> Vec<Piece> {
    let mut at = 0;
    let mut chosen = Vec::new();
    for piece in pieces {
        let from = range.start.clamp(at, at + piece.length);
        let to = range.end.clamp(at, at + piece.length);
        if from < to {
            let offset = piece.offset + (from - at);
            chosen.push(Piece { blob: piece.blob, offset, length: to - from });
        }
        at += piece.length;
    }
    chosen
}

/// Every blob file in one of the 256 folders, with its size. A file of any other name is none of ours.
pub fn files_in(folder: &Path) -> io::Result<Vec<(BlobId, PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok()) {
            files.push((BlobId(id), entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(files)
}
