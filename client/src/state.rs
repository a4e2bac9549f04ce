//! Remembers unfinished uploads: one small JSON file for each, so that sending the same file again
//! resumes it. A lock beside it keeps two processes from sending the same file at once; the operating
//! system lets go of it when its process ends, however it ends.
//!
//! Losing this directory loses nothing but the chance to resume: uploads nobody finishes expire on
//! the server. No API key is kept in it and no URL, but the token of each upload, with which whoever may
//! read the file (its owner alone) can go on with that upload.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checksum::Algorithm;
use crate::error::Error;
use crate::file::Fingerprint;

/// Where the `upflow` command keeps its state: `$UPFLOW_STATE_DIR`, else
/// `$XDG_STATE_HOME/upflow/uploads`, else `~/.local/state/upflow/uploads`. `None` without a home.
pub fn default_dir() -> Option<PathBuf> {
    dir_from(|name| std::env::var_os(name))
}

fn dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = || {
        // The XDG specification has relative paths ignored.
        path("XDG_STATE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".local/state")))
    };
    path("UPFLOW_STATE_DIR").or_else(|| base().map(|base| base.join("upflow/uploads")))
}

/// What makes two runs the same upload. The file's size and time are not in it: a file that changed
/// has to be recognised as the one that was being sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub server: String,
    /// Absolute, without symbolic links; see [`path_text`].
    pub path: String,
    pub filename: String,
    pub chunk_size: Option<u64>,
    pub content_type: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub algorithm: Algorithm,
}

/// An upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub identity: Identity,
    #[serde(flatten)]
    pub file: Fingerprint,
    /// Kept before init is called, so that an answer that got lost makes no second upload.
    pub idempotency_key: String,
    pub upload_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_token: Option<String>,
}

/// The place of one upload in the state directory, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Place {
    identity: Identity,
    record: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Place {
    /// # Errors
    /// [`Error::Busy`] when another process has it, [`Error::State`] when the directory is unusable.
    pub fn lock(dir: &Path, identity: Identity) -> Result<Self, Error> {
        let failed = |source| Error::State { path: dir.to_owned(), source };
        let key = key(&identity).map_err(failed)?;
        make_dir(dir).map_err(failed)?;
        let lock_path = dir.join(format!("{key}.lock"));
        let Some(lock) = lock_file(&lock_path).map_err(failed)? else {
            return Err(Error::Busy { path: identity.path.into() });
        };
        Ok(Self { identity, record: dir.join(format!("{key}.json")), lock_path, _lock: lock })
    }

    /// What an earlier run left. What cannot be read counts as nothing: the file is sent from the
    /// start, and its older upload expires on the server.
    pub fn load(&self) -> Option<Record> {
        let text = fs::read(&self.record).ok()?;
        match serde_json::from_slice::<Record>(&text) {
            Ok(record) if record.identity == self.identity => Some(record),
            Ok(_) => None,
            Err(error) => {
                let path = self.record.display();
                tracing::warn!(%path, %error, "ignoring the state of an upload: it cannot be read");
                None
            }
        }
    }

    /// Not synced to disk: after a power cut, resuming is all that would be lost. That keeps this
    /// short enough to be called from async code.
    pub fn save(&self, record: &Record) -> Result<(), Error> {
        let write = || {
            let temporary = self.record.with_extension("tmp");
            let mut file = private().create(true).truncate(true).write(true).open(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(record)?)?;
            fs::rename(&temporary, &self.record)
        };
        write().map_err(|source| Error::State { path: self.record.clone(), source })
    }

    pub fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.record)
            && error.kind() != io::ErrorKind::NotFound
        {
            // The next run asks the server and finds out.
            tracing::warn!(path = %self.record.display(), %error, "cannot remove the state of an upload");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Safe while the lock is held, as `lock_file` looks whether its file was removed meanwhile.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// `None` when another process holds the lock.
fn lock_file(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = private().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) if was_removed(&file)? => continue,
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether the holder before us removed the file between our opening and locking it.
#[cfg(unix)]
fn was_removed(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file.metadata()?.nlink() == 0)
}

#[cfg(not(unix))]
fn was_removed(_: &File) -> io::Result<bool> {
    Ok(false)
}

fn private() -> OpenOptions {
    #[allow(unused_mut)]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// The file name. A collision would need two uploads with the same 64 bits, and is noticed at loading.
fn key(identity: &Identity) -> io::Result<String> {
    let text = serde_json::to_vec(identity)?;
    Ok(format!("{:016x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &text)))
}

/// A path as text that no other path has, also where it is not UTF-8: then the odd bytes are escaped.
pub(crate) fn path_text(path: &Path) -> String {
    path.to_str().map_or_else(|| format!("{path:?}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(path: &str, filename: &str) -> Identity {
        Identity {
            server: "http://127.0.0.1:8000/".into(),
            path: path.into(),
            filename: filename.into(),
            chunk_size: None,
            content_type: None,
            metadata: BTreeMap::new(),
            algorithm: Algorithm::default(),
        }
    }

    fn record(identity: Identity) -> Record {
        Record {
            identity,
            file: Fingerprint { file_size: 7, modified_ns: -1 },
            idempotency_key: "k".into(),
            upload_id: Some("u".into()),
            upload_token: Some("t".into()),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::lock(&dir.path().join("a/b"), identity("/f", "f")).unwrap();
        assert_eq!(place.load(), None);
        let record = record(identity("/f", "f"));
        place.save(&record).unwrap();
        assert_eq!(place.load(), Some(record));
        place.forget();
        place.forget();
        assert_eq!(place.load(), None);
        drop(place);
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
    }

    #[test]
    fn state_that_is_broken_or_of_another_upload_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::lock(dir.path(), identity("/f", "f")).unwrap();
        fs::write(&place.record, "{").unwrap();
        assert_eq!(place.load(), None);
        place.save(&record(identity("/g", "f"))).unwrap();
        assert_eq!(place.load(), None);
    }

    #[test]
    fn only_one_holds_a_place_and_the_next_gets_it_after() {
        let dir = tempfile::tempdir().unwrap();
        let first = Place::lock(dir.path(), identity("/f", "f")).unwrap();
        assert!(matches!(Place::lock(dir.path(), identity("/f", "f")), Err(Error::Busy { .. })));
        assert!(Place::lock(dir.path(), identity("/g", "g")).is_ok());
        drop(first);
        assert!(Place::lock(dir.path(), identity("/f", "f")).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let place = Place::lock(dir.path(), identity("/f", "f")).unwrap();
        place.save(&record(identity("/f", "f"))).unwrap();
        assert_eq!(fs::metadata(&place.record).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_directory_follows_the_environment() {
        let at = |pairs: &[(&str, &str)]| {
            dir_from(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[("HOME", "/h")]), Some("/h/.local/state/upflow/uploads".into()));
        let xdg = [("HOME", "/h"), ("XDG_STATE_HOME", "/x")];
        assert_eq!(at(&xdg), Some("/x/upflow/uploads".into()));
        let relative = [("HOME", "/h"), ("XDG_STATE_HOME", "x")];
        assert_eq!(at(&relative), Some("/h/.local/state/upflow/uploads".into()));
        assert_eq!(at(&[("HOME", "/h"), ("UPFLOW_STATE_DIR", "/s")]), Some("/s".into()));
    }

    proptest! {
        #[test]
        fn keys_are_stable_and_tell_uploads_apart(a in ".{0,20}", b in ".{0,20}") {
            prop_assert_eq!(key(&identity(&a, "f")).unwrap(), key(&identity(&a, "f")).unwrap());
            if a != b {
                prop_assert_ne!(key(&identity(&a, "f")).unwrap(), key(&identity(&b, "f")).unwrap());
                prop_assert_ne!(key(&identity("/f", &a)).unwrap(), key(&identity("/f", &b)).unwrap());
            }
        }
    }
}
