//! The start: reads what is there into memory, and removes what a crash left behind.
//!
//! Left behind can be: drafts of records, blobs that no record came to name, the log of an upload whose
//! object is there already, and a log's torn last line. A record that cannot be read is left alone, and
//! as long as there is one, so is every blob: it may be the one that names it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::blobs::{Blobs, files_in};
use super::bucket::{Bucket, Listed};
use super::durable;
use super::record::ObjectRecord;
use super::upload::Upload;

/// Reading many small files waits more than it works.
const READERS: usize = 8;

/// What the start found and did, for the log.
#[derive(Debug, Default)]
pub struct Found {
    pub objects: usize,
    pub uploads: usize,
    pub unreadable: bool,
    pub orphans_removed: usize,
    /// Blobs that a record names and that are not there.
    pub blobs_missing: usize,
}

pub fn load_bucket(bucket: &Bucket, found: &mut Found) -> io::Result<()> {
    let folders = subfolders(&bucket.objects_folder())?;
    let unreadable = AtomicBool::new(false);
    let records = in_parallel(&folders, |folder| {
        let mut records = Vec::new();
        for path in entries(folder, "json")? {
            match read_record(bucket, &path) {
                Ok(record) => {
                    bucket.blobs().count(&record.pieces);
                    records.push((record.key.clone(), Listed::from(&record), record.upload_id));
                }
                Err(error) => {
                    unreadable.store(true, Ordering::Relaxed);
                    tracing::error!(%error, path = %path.display(), "an object's record cannot be read");
                }
            }
        }
        Ok(records)
    })?;
    let mut completed = std::collections::HashSet::new();
    let mut index = bucket.index_mut();
    for (key, listed, upload_id) in records.into_iter().flatten() {
        completed.extend(upload_id);
        index.insert(key, listed);
    }
    found.objects += index.len();
    drop(index);
    found.unreadable |= unreadable.into_inner();
    load_uploads(bucket, &completed, found)
}

fn load_uploads(
    bucket: &Bucket,
    completed: &std::collections::HashSet<String>,
    found: &mut Found,
) -> io::Result<()> {
    let folder = bucket.uploads_folder();
    for path in entries(&folder, "jsonl")? {
        match Upload::load(&path) {
            Ok(upload) if completed.contains(&upload.record.upload_id) => {
                fs::remove_file(upload.path())?
            }
            Ok(upload) => {
                bucket.blobs().count(&upload.pieces());
                let id = (upload.record.key.clone(), upload.record.upload_id.clone());
                bucket.uploads_mut().insert(id, Arc::new(upload));
                found.uploads += 1;
            }
            Err(error) => {
                found.unreadable = true;
                tracing::error!(%error, path = %path.display(), "an upload's log cannot be read");
            }
        }
    }
    durable::sync_folder(&folder)
}

/// Removes the blobs that nothing refers to, once every record has been counted.
pub fn remove_orphans(blobs: &Blobs, found: &mut Found) -> io::Result<()> {
    let known = AtomicUsize::new(0);
    let removed = AtomicUsize::new(0);
    let keep_all = found.unreadable;
    in_parallel(&subfolders(blobs.folder())?, |folder| {
        for (id, path, size) in files_in(folder)? {
            if blobs.found(id, size) {
                known.fetch_add(1, Ordering::Relaxed);
            } else if !keep_all {
                fs::remove_file(path)?;
                removed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })?;
    found.orphans_removed = removed.into_inner();
    found.blobs_missing = blobs.len() - known.into_inner();
    Ok(())
}

fn read_record(bucket: &Bucket, path: &Path) -> io::Result<ObjectRecord> {
    let record: ObjectRecord = serde_json::from_slice(&fs::read(path)?)?;
    if bucket.record_path(&record.key) == path {
        Ok(record)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the record is not at its key's place"))
    }
}

/// The files with an ending: a file manager may have left others.
fn entries(folder: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|one| one == ending) {
            paths.push(path);
        }
    }
    Ok(paths)
}

pub fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn in_parallel<T: Send>(
    folders: &[PathBuf],
    work: impl Fn(&Path) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let share = folders.len().div_ceil(READERS).max(1);
        let threads: Vec<_> = folders
            .chunks(share)
            .map(|share| {
                scope.spawn(|| {
                    share.iter().map(|folder| work(folder)).collect::<io::Result<Vec<T>>>()
                })
            })
            .collect();
        let mut done = Vec::with_capacity(folders.len());
        for thread in threads {
            done.extend(thread.join().map_err(|_| io::Error::other("a reading thread stopped"))??);
        }
        Ok(done)
    })
}
