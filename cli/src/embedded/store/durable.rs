//! The file-system steps that everything durable is made of.
//!
//! A record is replaced by writing a draft beside it, syncing the draft, renaming it over the old one and
//! syncing the folder. A crash at any moment leaves the old record or the new one, and at most a draft,
//! which the next start removes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A record that is on disk, but not yet at its place.
pub struct Draft {
    path: PathBuf,
    placed: bool,
}

impl Draft {
    /// Writes and syncs the bytes under a name of their own in `drafts`, on the same file system as the
    /// place they are meant for.
    pub fn write(drafts: &Path, bytes: &[u8]) -> io::Result<Draft> {
        let path = drafts.join(Uuid::new_v4().simple().to_string());
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let draft = Draft { path, placed: false };
        file.write_all(bytes)?;
        file.sync_data()?;
        Ok(draft)
    }

    /// Puts the record at its place, instead of whatever was there. It is durable only once the folder is
    /// synced, which is left to the caller, since one sync serves many records.
    pub fn place(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            // What cannot be removed now goes at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the names in a folder durable: those that came and those that went.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and the file system orders its own names.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Creates a folder, with those above it that are missing, and makes their names durable: an object whose
/// folder is gone after a power cut is gone with it.
pub fn create_folders(builder: &fs::DirBuilder, folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let missing: Vec<&Path> = folder.ancestors().take_while(|one| !one.exists()).collect();
    builder.create(&folder)?;
    missing.iter().filter_map(|one| one.parent()).try_for_each(sync_folder)
}

/// Creates the 256 folders `00` to `ff` that keep any single one small.
pub fn create_fan(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for byte in 0..=u8::MAX {
        match fs::create_dir(folder.join(format!("{byte:02x}"))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    sync_folder(folder)
}

/// Removes a file; that it is not there is fine.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes everything inside a folder.
pub fn empty_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
