//! The keys of the local S3 server: made at the first run and kept in the data folder, readable by its
//! owner only.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rand::distr::{Alphanumeric, SampleString as _};
use serde::{Deserialize, Serialize};
use upflow_core::config::StaticCredentials;

use super::store::durable;

#[derive(Serialize, Deserialize)]
struct Stored {
    access_key: String,
    secret_key: String,
}

/// Where the keys of a data folder are.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("s3-credentials.json")
}

/// The keys of this data folder. One process at a time may ask: the one that has locked its store.
pub fn load_or_make(dir: &Path) -> anyhow::Result<StaticCredentials> {
    let path = path(dir);
    let stored: Stored = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what UpFlow wrote: delete it", path.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => make(&path)?,
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", path.display()));
        }
    };
    Ok(StaticCredentials { access_key: stored.access_key, secret_key: stored.secret_key })
}

fn make(path: &Path) -> anyhow::Result<Stored> {
    let mut random = rand::rng();
    let stored = Stored {
        access_key: Alphanumeric.sample_string(&mut random, 20).to_uppercase(),
        secret_key: Alphanumeric.sample_string(&mut random, 40),
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Beside, then renamed: a start that is cut off leaves no half file. Anew, since a file that is there
    // already keeps the permissions it has.
    let beside = path.with_extension("new");
    durable::remove_if_there(&beside)?;
    let mut file = options.open(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), durable::sync_folder)?;
    Ok(stored)
}
