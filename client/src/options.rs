//! What a caller decides: once for all files ([`Options`]), and for each file ([`FileUpload`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::checksum::Algorithm;
use crate::error::Error;
use crate::retry::Retry;

/// How to reach the server, and how hard to try.
#[derive(Clone)]
pub struct Options {
    /// The server's address; a path in it is kept as a prefix of every call.
    pub server: Url,
    /// Sent as `Authorization: Bearer`, to the server only.
    pub api_key: Option<String>,
    /// Chunks under way at once, 1 to 64. Each costs about a megabyte of memory.
    pub parallel: usize,
    /// Where unfinished uploads are remembered; `None` remembers nothing, so nothing resumes. See
    /// [`crate::state::default_dir`].
    pub state_dir: Option<PathBuf>,
    pub retry: Retry,
    /// A chunk of which no byte moved for this long is sent again.
    pub stall_timeout: Duration,
    /// How long to wait for the server to put a file together.
    pub assembly_timeout: Duration,
}

impl Options {
    /// Settings that suit most: 8 chunks at once, nothing remembered.
    ///
    /// # Errors
    /// [`Error::Settings`] when `server` is no http or https address, or has a password in it.
    pub fn new(server: &str) -> Result<Self, Error> {
        Ok(Self {
            server: server_url(server)?,
            api_key: None,
            parallel: 8,
            state_dir: None,
            retry: Retry::default(),
            stall_timeout: Duration::from_secs(60),
            assembly_timeout: Duration::from_secs(12 * 3600),
        })
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(1..=64).contains(&self.parallel) {
            return Err(Error::Settings("chunks under way at once must be 1 to 64".to_owned()));
        }
        if self.retry.attempts == 0 {
            return Err(Error::Settings("there must be at least one attempt".to_owned()));
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("server", &self.server.as_str())
            .field("api_key", &self.api_key.as_ref().map(|_| "(hidden)"))
            .field("parallel", &self.parallel)
            .field("state_dir", &self.state_dir)
            .field("retry", &self.retry)
            .field("stall_timeout", &self.stall_timeout)
            .field("assembly_timeout", &self.assembly_timeout)
            .finish()
    }
}

/// A file to upload, and what to tell the server of it.
#[derive(Debug, Clone)]
pub struct FileUpload {
    pub path: PathBuf,
    /// The name it gets; by default the one it has on disk.
    pub filename: Option<String>,
    /// Bytes; by default the server decides.
    pub chunk_size: Option<u64>,
    pub content_type: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub algorithm: Algorithm,
}

impl FileUpload {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            filename: None,
            chunk_size: None,
            content_type: None,
            metadata: BTreeMap::new(),
            algorithm: Algorithm::default(),
        }
    }

    pub(crate) fn name(&self) -> Result<String, Error> {
        if let Some(name) = &self.filename {
            return Ok(name.clone());
        }
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.map(str::to_owned).ok_or_else(|| {
            Error::Settings(format!(
                "{} has no name in UTF-8; give the name it shall have",
                self.path.display()
            ))
        })
    }
}

fn server_url(text: &str) -> Result<Url, Error> {
    let wrong = |why: &str| Error::Settings(format!("the server's address {why}"));
    let mut url = Url::parse(text)
        .map_err(|error| wrong(&format!("is none ({error}); try http://127.0.0.1:8000")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a name or password; give an API key instead"));
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_address_is_checked_and_made_uniform() {
        assert_eq!(server_url("http://h:8000").unwrap(), server_url("http://h:8000/").unwrap());
        assert_eq!(server_url("https://h/a/").unwrap().as_str(), "https://h/a");
        for wrong in ["h:8000", "ftp://h", "http://u:secret@h", "", "127.0.0.1:8000"] {
            let error = server_url(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_key() {
        let options = Options { api_key: Some("hush".into()), ..Options::new("http://h").unwrap() };
        assert!(!format!("{options:?}").contains("hush"));
    }
}
