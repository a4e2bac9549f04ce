//! Checksums of chunks, read from the file before they are sent, as S3 wants them: base64 of the
//! big-endian bytes. S3 then refuses a body that is not what was read here.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Large enough that system calls cost nothing beside the reading, small enough to stay in cache.
const BLOCK: usize = 256 * 1024;

/// Which checksum an upload uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    #[default]
    Crc64Nvme,
    Crc32c,
}

impl Algorithm {
    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc64Nvme => "crc64nvme",
            Algorithm::Crc32c => "crc32c",
        }
    }

    fn digest(self) -> crc_fast::Digest {
        crc_fast::Digest::new(match self {
            Algorithm::Crc64Nvme => crc_fast::CrcAlgorithm::Crc64Nvme,
            Algorithm::Crc32c => crc_fast::CrcAlgorithm::Crc32Iscsi,
        })
    }

    fn text(self, value: u64) -> String {
        let bytes = value.to_be_bytes();
        match self {
            Algorithm::Crc64Nvme => STANDARD.encode(bytes),
            Algorithm::Crc32c => STANDARD.encode(&bytes[4..]),
        }
    }
}

/// The checksums of ranges of a file, in the order given. Blocks its thread; stops soon after `stop`
/// is cancelled, since a blocking task cannot be dropped.
///
/// # Errors
/// `UnexpectedEof` when the file is shorter than a range; otherwise what opening or reading says.
pub(crate) fn of_ranges(
    path: &Path,
    algorithm: Algorithm,
    ranges: &[Range<u64>],
    stop: &CancellationToken,
) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let mut block = vec![0; BLOCK];
    ranges.iter().map(|range| of_range(&mut file, &mut block, algorithm, range, stop)).collect()
}

fn of_range(
    file: &mut File,
    block: &mut [u8],
    algorithm: Algorithm,
    range: &Range<u64>,
    stop: &CancellationToken,
) -> io::Result<String> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut digest = algorithm.digest();
    let mut left = range.end.saturating_sub(range.start);
    while left > 0 {
        if stop.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let wanted = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        file.read_exact(&mut block[..wanted])?;
        digest.update(&block[..wanted]);
        left -= wanted as u64;
    }
    Ok(algorithm.text(digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the pieces given as start and end.
    fn checksums(
        bytes: &[u8],
        algorithm: Algorithm,
        pieces: &[(u64, u64)],
    ) -> io::Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let ranges: Vec<_> = pieces.iter().map(|(start, end)| *start..*end).collect();
        of_ranges(&path, algorithm, &ranges, &CancellationToken::new())
    }

    #[test]
    fn the_check_values_of_the_catalogue_come_out() {
        // https://reveng.sourceforge.io/crc-catalogue: ae8b14860a799888 and e3069283.
        let whole = [(0, 9)];
        assert_eq!(
            checksums(b"123456789", Algorithm::Crc64Nvme, &whole).unwrap(),
            ["rosUhgp5mIg="]
        );
        assert_eq!(checksums(b"123456789", Algorithm::Crc32c, &whole).unwrap(), ["4waSgw=="]);
    }

    #[test]
    fn a_range_is_summed_as_if_it_were_a_file() {
        let bytes: Vec<u8> = (0..700_000u32).map(|i| (i % 251) as u8).collect();
        let both =
            checksums(&bytes, Algorithm::Crc64Nvme, &[(300_000, 700_000), (0, 300_000)]).unwrap();
        let second = checksums(&bytes[300_000..], Algorithm::Crc64Nvme, &[(0, 400_000)]).unwrap();
        let first = checksums(&bytes[..300_000], Algorithm::Crc64Nvme, &[(0, 300_000)]).unwrap();
        assert_eq!(both, [second, first].concat());
    }

    #[test]
    fn a_file_that_is_too_short_is_an_unexpected_end() {
        let error = checksums(b"123", Algorithm::Crc64Nvme, &[(0, 4)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
