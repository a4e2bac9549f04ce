//! A bucket: its index of keys, its object records and its multipart uploads.
//!
//! An object is its record: one JSON file, named by the hash of its key, that a rename replaces. Whoever
//! replaces or removes a record takes the key's turn first, so that what a condition saw is still so when
//! the rename happens, and the index says what the disk says. Readers take no turn: they read whichever
//! whole record is there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use s3s::dto::CORSConfiguration;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::blobs::{Blobs, Held, Piece};
use super::digest::{Algorithm, Kind, key_hash};
use super::durable::{self, Draft};
use super::failure::{failed, no_such_key, precondition_failed};
use super::listing::{Page, Query, page};
use super::record::{ObjectRecord, Seconds};
use super::upload::Upload;

/// How often a reader looks again when the record it read is replaced under it.
const READ_ATTEMPTS: usize = 100;
const TURNS: usize = 64;

pub struct Bucket {
    pub name: String,
    folder: PathBuf,
    drafts: PathBuf,
    blobs: Arc<Blobs>,
    settings: RwLock<Settings>,
    index: RwLock<BTreeMap<String, Listed>>,
    uploads: RwLock<BTreeMap<(String, String), Arc<Upload>>>,
    /// One lock for many keys: held for a rename, never for a body or a sync.
    turns: Vec<Mutex<()>>,
}

/// What is set on a bucket, in `bucket.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    pub created: Seconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<CORSConfiguration>,
}

/// What a listing shows of an object; the whole record stays on disk.
#[derive(Debug, Clone)]
pub struct Listed {
    pub etag: String,
    pub size: u64,
    pub modified: Seconds,
    pub checksum: (Algorithm, Kind),
}

/// What has to be true of the object that is about to be replaced or removed.
#[derive(Debug, Clone)]
pub enum Condition {
    Always,
    /// If-None-Match: *
    Absent,
    /// If-Match: *
    Present,
    /// If-Match
    Etag(String),
}

/// An object that was removed from the index, before that is durable.
pub struct Removed {
    folder: PathBuf,
    pieces: Vec<Piece>,
}

impl Bucket {
    /// The bucket in a folder that is laid out already.
    pub fn new(
        name: String,
        folder: PathBuf,
        drafts: PathBuf,
        blobs: Arc<Blobs>,
        settings: Settings,
    ) -> Bucket {
        Bucket {
            name,
            folder,
            drafts,
            blobs,
            settings: RwLock::new(settings),
            index: RwLock::default(),
            uploads: RwLock::default(),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Lays out a new bucket's folder and moves it to its place as a whole.
    pub fn create(folder: &Path, drafts: &Path) -> io::Result<()> {
        let draft = drafts.join(uuid::Uuid::new_v4().simple().to_string());
        durable::create_fan(&draft.join("objects"))?;
        fs::create_dir(draft.join("uploads"))?;
        let settings = Settings { created: Seconds::now(), cors: None };
        Draft::write(drafts, &serde_json::to_vec_pretty(&settings)?)?
            .place(&draft.join("bucket.json"))?;
        durable::sync_folder(&draft)?;
        fs::rename(&draft, folder)?;
        folder.parent().map_or(Ok(()), durable::sync_folder)
    }

    pub fn read_settings(folder: &Path) -> io::Result<Settings> {
        Ok(serde_json::from_slice(&fs::read(folder.join("bucket.json"))?)?)
    }

    pub fn settings(&self) -> Settings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_cors(&self, cors: Option<CORSConfiguration>) -> io::Result<()> {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let changed = Settings { cors, ..settings.clone() };
        let draft = Draft::write(&self.drafts, &serde_json::to_vec_pretty(&changed)?)?;
        draft.place(&self.folder.join("bucket.json"))?;
        *settings = changed;
        durable::sync_folder(&self.folder)
    }

    pub fn objects_folder(&self) -> PathBuf {
        self.folder.join("objects")
    }

    pub fn uploads_folder(&self) -> PathBuf {
        self.folder.join("uploads")
    }

    pub fn drafts(&self) -> &Path {
        &self.drafts
    }

    pub fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    pub fn record_path(&self, key: &str) -> PathBuf {
        let hash = key_hash(key);
        self.folder.join("objects").join(&hash[..2]).join(format!("{hash}.json"))
    }

    pub fn index(&self) -> RwLockReadGuard<'_, BTreeMap<String, Listed>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn index_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Listed>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn uploads(&self) -> RwLockReadGuard<'_, BTreeMap<(String, String), Arc<Upload>>> {
        self.uploads.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn uploads_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<(String, String), Arc<Upload>>> {
        self.uploads.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn upload(&self, key: &str, upload_id: &str) -> Option<Arc<Upload>> {
        self.uploads().get(&(key.to_owned(), upload_id.to_owned())).cloned()
    }

    pub fn list(&self, query: &Query<'_>) -> Page<Listed> {
        page(&self.index(), query)
    }

    /// The record of an object, if there is one.
    pub fn read(&self, key: &str) -> io::Result<Option<ObjectRecord>> {
        if !self.index().contains_key(key) {
            return Ok(None);
        }
        match fs::read(self.record_path(key)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record of an object, with its bytes held so that they stay while they are read or copied.
    pub fn open(&self, key: &str) -> S3Result<(ObjectRecord, Held)> {
        for _ in 0..READ_ATTEMPTS {
            let record = self.read(key).map_err(failed)?.ok_or_else(no_such_key)?;
            if let Some(held) = self.blobs.hold(&record.pieces) {
                return Ok((record, held));
            }
        }
        Err(s3_error!(SlowDown, "The object is being replaced too fast to be read."))
    }

    /// Puts an object in the place of whatever has its key, if the condition holds. The references that
    /// the record needs are held by the caller, who then leaves them to the record. They stay with the
    /// caller if this fails before the record is in place.
    pub fn publish(&self, record: ObjectRecord, held: Held, condition: &Condition) -> S3Result<()> {
        let path = self.record_path(&record.key);
        let draft = serde_json::to_vec(&record)
            .map_err(io::Error::from)
            .and_then(|bytes| Draft::write(&self.drafts, &bytes))
            .map_err(failed)?;
        let replaced = {
            let _turn = self.turn(&record.key);
            condition.check(self.index().get(&record.key))?;
            let replaced = self.pieces_of(&record.key);
            draft.place(&path).map_err(failed)?;
            held.keep();
            self.index_mut().insert(record.key.clone(), Listed::from(&record));
            replaced
        };
        if let Some(folder) = path.parent() {
            durable::sync_folder(folder).map_err(failed)?;
        }
        // Only now: after a crash before the sync, the old record may be the one that is there.
        drop(self.blobs.take_over(&replaced));
        Ok(())
    }

    /// Removes an object, if the condition holds. It is gone for good after `finish_removals`: that it was
    /// not there to begin with may be another's removal that is not durable yet.
    pub fn remove(&self, key: &str, condition: &Condition) -> S3Result<Removed> {
        let path = self.record_path(key);
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let _turn = self.turn(key);
        {
            let index = self.index();
            let Some(current) = index.get(key) else {
                return Ok(Removed { folder, pieces: Vec::new() });
            };
            condition.check(Some(current))?;
        }
        let pieces = self.pieces_of(key);
        durable::remove_if_there(&path).map_err(failed)?;
        self.index_mut().remove(key);
        Ok(Removed { folder, pieces })
    }

    /// Makes removals durable, each folder synced once, and gives back their bytes.
    pub fn finish_removals(&self, removed: Vec<Removed>) -> io::Result<()> {
        let mut folders: Vec<&PathBuf> = removed.iter().map(|one| &one.folder).collect();
        folders.sort_unstable();
        folders.dedup();
        folders.into_iter().try_for_each(|folder| durable::sync_folder(folder))?;
        for one in &removed {
            drop(self.blobs.take_over(&one.pieces));
        }
        Ok(())
    }

    /// What the object under a key is made of, to be given back when it is gone. An unreadable record's
    /// bytes stay.
    fn pieces_of(&self, key: &str) -> Vec<Piece> {
        match self.read(key) {
            Ok(record) => record.map(|record| record.pieces).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the record of a replaced object cannot be read; its bytes stay");
                Vec::new()
            }
        }
    }

    fn turn(&self, key: &str) -> MutexGuard<'_, ()> {
        let sum =
            key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.turns[sum % TURNS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    fn check(&self, current: Option<&Listed>) -> S3Result<()> {
        match (self, current) {
            (Condition::Always, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => {
                Ok(())
            }
            (Condition::Absent, Some(_)) => Err(precondition_failed()),
            (Condition::Present | Condition::Etag(_), None) => Err(no_such_key()),
            (Condition::Etag(etag), Some(current)) if *etag == current.etag => Ok(()),
            (Condition::Etag(_), Some(_)) => Err(precondition_failed()),
        }
    }
}

impl From<&ObjectRecord> for Listed {
    fn from(record: &ObjectRecord) -> Listed {
        Listed {
            etag: record.etag.clone(),
            size: record.size,
            modified: record.modified,
            checksum: (record.checksum.algorithm, record.checksum.kind),
        }
    }
}
