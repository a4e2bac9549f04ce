//! The local S3 store: S3's operations, on a folder.
//!
//! The protocol (HTTP, XML, signatures) is the `s3s` crate's; what the operations mean is here. Objects
//! are records that list pieces of immutable blobs, so a copy is one more reference to the same bytes,
//! Complete writes one record, and nothing is visible before it is whole and durable:
//!
//! - `service` maps S3's operations to `objects`, `multipart`, `complete` and `lists`.
//! - `receive` takes a body in and compares it with the client's claims; `digest` and `crc` compute them.
//! - `bucket` holds the index and replaces records; `upload` keeps the log of a multipart upload.
//! - `blobs` holds the bytes and counts who refers to them; `sweep` rebuilds all that at start.
//!
//! Bounds: the index keeps about 250 bytes in memory for each object, and a part's record for each part
//! of an upload that is under way; bodies pass through in blocks of 512 KiB.

mod blobs;
mod bucket;
mod complete;
mod conditions;
mod crc;
mod digest;
pub(super) mod durable;
mod failure;
mod listing;
mod lists;
mod multipart;
mod objects;
mod receive;
mod record;
mod service;
mod sweep;
mod upload;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use s3s::dto::CORSConfiguration;
use s3s::{S3Result, s3_error};

use blobs::Blobs;
use bucket::Bucket;
use sweep::Found;

const README: &str = include_str!("README.data.txt");
/// What the folder's layout is called, so that a later one can tell.
const LAYOUT: &str = "upflow local store, layout 1\n";

const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A folder of buckets. Cheap to clone; all clones are the one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    buckets_folder: PathBuf,
    drafts: PathBuf,
    blobs: Arc<Blobs>,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
}

/// How a store behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Bodies that would take more space than this are refused with 507.
    pub max_bytes: Option<u64>,
}

impl Store {
    /// Opens the store in a folder, which is laid out if it is empty. Blocks while it reads what is there.
    pub fn open(data_dir: &Path) -> io::Result<Store> {
        Store::open_with(data_dir, Options::default())
    }

    pub fn open_with(data_dir: &Path, options: Options) -> io::Result<Store> {
        durable::create_folders(fs::DirBuilder::new().recursive(true), data_dir)?;
        let lock = lock(data_dir)?;
        check_layout(data_dir)?;
        let buckets_folder = data_dir.join("buckets");
        let drafts = data_dir.join("drafts");
        fs::create_dir_all(&buckets_folder)?;
        fs::create_dir_all(&drafts)?;
        durable::empty_folder(&drafts)?;
        let blobs = Arc::new(Blobs::new(data_dir.join("blobs"), options.max_bytes, lock)?);
        durable::sync_folder(data_dir)?;

        let mut found = Found::default();
        let mut buckets = BTreeMap::new();
        for folder in sweep::subfolders(&buckets_folder)? {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let settings = Bucket::read_settings(&folder)?;
            let bucket = Bucket::new(name.clone(), folder, drafts.clone(), blobs.clone(), settings);
            sweep::load_bucket(&bucket, &mut found)?;
            buckets.insert(name, Arc::new(bucket));
        }
        sweep::remove_orphans(&blobs, &mut found)?;
        if found.blobs_missing > 0 {
            tracing::error!(
                missing = found.blobs_missing,
                "bytes of some objects are not there any more"
            );
        }
        tracing::debug!(?found, "opened the local store");
        let buckets = RwLock::new(buckets);
        Ok(Store { inner: Arc::new(Inner { buckets_folder, drafts, blobs, buckets }) })
    }

    /// Sets or lifts the limit on the space that bodies may take.
    pub fn set_max_bytes(&self, max_bytes: Option<u64>) {
        self.inner.blobs.set_limit(max_bytes);
    }

    /// Creates a bucket; false if it was there already. Blocks.
    pub fn create_bucket(&self, name: &str) -> io::Result<bool> {
        if !s3s::path::check_bucket_name(name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is no bucket name"),
            ));
        }
        let mut buckets = self.inner.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return Ok(false);
        }
        let folder = self.inner.buckets_folder.join(name);
        Bucket::create(&folder, &self.inner.drafts)?;
        let settings = Bucket::read_settings(&folder)?;
        let (drafts, blobs) = (self.inner.drafts.clone(), self.inner.blobs.clone());
        buckets.insert(
            name.to_owned(),
            Arc::new(Bucket::new(name.to_owned(), folder, drafts, blobs, settings)),
        );
        Ok(true)
    }

    /// The bucket's CORS rules, if any are set.
    pub fn cors(&self, bucket: &str) -> Option<CORSConfiguration> {
        self.bucket(bucket).ok()?.settings().cors
    }

    fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        let buckets = self.inner.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets
            .get(name)
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }
}

/// Waits a little for a process that is just ending.
fn lock(data_dir: &Path) -> io::Result<File> {
    let file =
        File::options().create(true).truncate(false).write(true).open(data_dir.join("lock"))?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is in use by another process", data_dir.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Writes what the folder is into a new one, and refuses one that is something else.
fn check_layout(data_dir: &Path) -> io::Result<()> {
    let path = data_dir.join("layout");
    match fs::read_to_string(&path) {
        Ok(layout) if layout == LAYOUT => Ok(()),
        Ok(layout) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} holds {layout:?}, which this program cannot read", data_dir.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::write(data_dir.join("README.txt"), README)?;
            durable::Draft::write(data_dir, LAYOUT.as_bytes())?.place(&path)
        }
        Err(error) => Err(error),
    }
}
