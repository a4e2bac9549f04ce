//! The keys of the local S3 server: made at the first run and kept in the data folder, readable by its
//! owner only.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;
use rand::distr::{Alphanumeric, SampleString as _};
use serde::{Deserialize, Serialize};
use upflow_core::config::StaticCredentials;

const FILE: &str = "s3-credentials.json";

#[derive(Serialize, Deserialize)]
struct Stored {
    access_key: String,
    secret_key: String,
}

/// The keys of this data folder.
pub fn load_or_make(dir: &Path) -> anyhow::Result<StaticCredentials> {
    let path = dir.join(FILE);
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
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Beside, then renamed: a start that is cut off leaves no half file.
    let beside = path.with_extension("new");
    let mut file = options.open(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(stored)
}
