//! A multipart upload: a log of what was begun and of each part that arrived.
//!
//! One file of JSON lines per upload, the upload first and then every part. A part costs one append and
//! one sync, and the end of an upload removes one file, however many parts there were. A line that a
//! crash tore was never acknowledged; the next start cuts it off.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use s3s::S3Result;

use super::blobs::{Blobs, Held, Piece};
use super::durable::{self, Draft};
use super::failure::{failed, no_such_upload};
use super::record::{PartRecord, UploadRecord};

pub type Parts = BTreeMap<u16, PartRecord>;

pub struct Upload {
    pub record: UploadRecord,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    parts: Parts,
    /// False once the upload is completed or aborted.
    open: bool,
    /// False once a torn line could not be cut off: a line behind it would be lost with it.
    writable: bool,
}

impl Upload {
    pub fn begin(folder: &Path, drafts: &Path, record: UploadRecord) -> io::Result<Upload> {
        let path = folder.join(format!("{}.jsonl", record.upload_id));
        Draft::write(drafts, &line(&record)?)?.place(&path)?;
        durable::sync_folder(folder)?;
        Ok(Upload::new(record, path, Parts::new()))
    }

    /// Reads an upload's log back at start.
    pub fn load(path: &Path) -> io::Result<Upload> {
        let bytes = fs::read(path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(whole as u64)?;
            file.sync_data()?;
        }
        let mut lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let record = serde_json::from_slice(lines.next().unwrap_or_default())?;
        let mut parts = Parts::new();
        for line in lines {
            let part: PartRecord = serde_json::from_slice(line)?;
            parts.insert(part.number, part);
        }
        Ok(Upload::new(record, path.to_owned(), parts))
    }

    fn new(record: UploadRecord, path: PathBuf, parts: Parts) -> Upload {
        Upload { record, path, state: Mutex::new(State { parts, open: true, writable: true }) }
    }

    /// The parts as they are now; none once the upload has ended.
    pub fn parts(&self) -> S3Result<Parts> {
        let state = self.state();
        if state.open { Ok(state.parts.clone()) } else { Err(no_such_upload()) }
    }

    /// Adds a part, or puts it in the place of the one with its number.
    pub fn add(&self, part: PartRecord, held: Held, blobs: &Arc<Blobs>) -> S3Result<()> {
        let line = line(&part).map_err(failed)?;
        let (log, replaced) = {
            let mut state = self.state();
            if !state.open {
                return Err(no_such_upload());
            }
            let log = self.append(&mut state, &line).map_err(failed)?;
            held.keep();
            (log, state.parts.insert(part.number, part))
        };
        // Not under the lock, so that parts that arrive together share the file system's work. A part
        // may be completed before its line is durable: the object's record says all that the line does.
        log.sync_data().map_err(failed)?;
        if let Some(replaced) = replaced {
            drop(blobs.take_over(&replaced.pieces));
        }
        Ok(())
    }

    /// Ends the upload with the object that `publish` makes of its parts; none if it has ended already.
    /// If `publish` fails, the upload stays as it was.
    pub fn complete<T>(
        &self,
        blobs: &Arc<Blobs>,
        publish: impl FnOnce(&Parts) -> S3Result<T>,
    ) -> S3Result<Option<T>> {
        let mut state = self.state();
        if !state.open {
            return Ok(None);
        }
        let published = publish(&state.parts)?;
        state.open = false;
        let parts = std::mem::take(&mut state.parts);
        match self.remove_log() {
            Ok(()) => release(&parts, blobs),
            // The object is there, which is what counts; the next start removes the log.
            Err(error) => {
                tracing::warn!(%error, upload_id = self.record.upload_id, "a completed upload's log stays")
            }
        }
        Ok(Some(published))
    }

    pub fn abort(&self, blobs: &Arc<Blobs>) -> S3Result<()> {
        let mut state = self.state();
        if !state.open {
            return Err(no_such_upload());
        }
        self.remove_log().map_err(failed)?;
        state.open = false;
        release(&std::mem::take(&mut state.parts), blobs);
        Ok(())
    }

    fn remove_log(&self) -> io::Result<()> {
        durable::remove_if_there(&self.path)?;
        self.path.parent().map_or(Ok(()), durable::sync_folder)
    }

    /// Every piece that the log refers to.
    pub fn pieces(&self) -> Vec<Piece> {
        self.state().parts.values().flat_map(|part| part.pieces.iter().cloned()).collect()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&self, state: &mut State, line: &[u8]) -> io::Result<File> {
        if !state.writable {
            return Err(io::Error::other("the upload's log is damaged"));
        }
        let mut log = OpenOptions::new().append(true).open(&self.path)?;
        let length = log.metadata()?.len();
        if let Err(error) = log.write_all(line) {
            state.writable = log.set_len(length).is_ok();
            return Err(error);
        }
        Ok(log)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives back what a log that is gone referred to. What an object keeps of it has its own references.
fn release(parts: &Parts, blobs: &Arc<Blobs>) {
    parts.values().for_each(|part| drop(blobs.take_over(&part.pieces)));
}

fn line(record: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}
