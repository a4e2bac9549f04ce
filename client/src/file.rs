//! The file on disk: whether it is still the same one, and its bytes as a stream.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream::{self, Stream};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::progress::Attempt;

/// What is read and handed on at a time. Times the chunks under way, this bounds the memory.
const BLOCK: u64 = 256 * 1024;

/// How a file is recognised as unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub file_size: u64,
    /// Nanoseconds since 1970, negative before.
    pub modified_ns: i64,
}

impl Fingerprint {
    pub async fn of(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let metadata = tokio::fs::metadata(path).await.map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let modified_ns = nanoseconds(metadata.modified().map_err(failed)?);
        Ok(Self { file_size: metadata.len(), modified_ns })
    }

    /// Whether the file at `path` is still this one; one that is gone is not.
    pub async fn still_holds(&self, path: &Path) -> bool {
        Fingerprint::of(path).await.is_ok_and(|now| now == *self)
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(error) => {
            i64::try_from(error.duration().as_nanos()).map(|before| -before).unwrap_or(i64::MIN)
        }
    }
}

/// The bytes of a range, in blocks, counted in `attempt` as they are handed on.
pub(crate) fn blocks(
    path: PathBuf,
    range: Range<u64>,
    attempt: Arc<Attempt>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let path: Arc<Path> = path.into();
    stream::try_unfold((None, range), move |(file, range)| {
        let (path, attempt) = (path.clone(), attempt.clone());
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || read_block(&path, file, range)).await;
            match read.map_err(io::Error::other).flatten() {
                Ok((bytes, file, rest)) => {
                    attempt.add(bytes.len() as u64);
                    Ok(Some((bytes, (Some(file), rest))))
                }
                Err(error) => {
                    attempt.set_fault(&error);
                    Err(error)
                }
            }
        }
    })
}

type Block = (Bytes, File, Range<u64>);

fn read_block(path: &Path, file: Option<File>, range: Range<u64>) -> io::Result<Block> {
    let mut file = match file {
        Some(file) => file,
        None => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(range.start))?;
            file
        }
    };
    let wanted = (range.end - range.start).min(BLOCK);
    let mut bytes = Vec::with_capacity(wanted as usize);
    (&mut file).take(wanted).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < wanted {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
    }
    Ok((bytes.into(), file, range.start + wanted..range.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Listener, Meter};
    use futures::TryStreamExt as _;
    use proptest::prelude::*;

    fn read(bytes: &[u8], range: Range<u64>) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("file");
        std::fs::write(&path, bytes)?;
        let attempt = Attempt::new(Arc::new(Meter::new(Listener::none())));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let blocks: Vec<Bytes> =
            runtime.block_on(blocks(path, range, attempt.clone()).try_collect())?;
        assert!(blocks.iter().all(|block| block.len() as u64 <= BLOCK));
        assert_eq!(attempt.sent(), blocks.iter().map(|b| b.len() as u64).sum::<u64>());
        Ok(blocks.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_range_comes_out_as_it_is_on_disk(size in 0usize..1_000_000, a in 0u64..1_000_000, b in 0u64..1_000_000) {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 253) as u8).collect();
            let end = a.max(b).min(size as u64);
            let start = a.min(b).min(end);
            prop_assert_eq!(read(&bytes, start..end).unwrap(), &bytes[start as usize..end as usize]);
        }
    }

    #[test]
    fn a_file_that_is_too_short_is_an_unexpected_end() {
        assert_eq!(read(b"123", 0..4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_changed_file_does_not_match_its_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let before = Fingerprint::of(&path).await.unwrap();
        assert!(before.still_holds(&path).await);
        std::fs::write(&path, "longer").unwrap();
        assert!(!before.still_holds(&path).await);
        std::fs::remove_file(&path).unwrap();
        assert!(!before.still_holds(&path).await);
        assert!(matches!(Fingerprint::of(dir.path()).await, Err(Error::NotAFile { .. })));
    }
}
