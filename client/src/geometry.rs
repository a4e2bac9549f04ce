//! Which bytes of a file each chunk is. The server plans; here its plan is checked and applied.

use std::ops::Range;

use crate::error::Error;
use crate::wire::Upload;

/// A file cut into chunks of one size; the last one is the remainder, and an empty file has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes.
    pub file_size: u64,
    /// Bytes.
    pub chunk_size: u64,
    pub total_chunks: u32,
}

impl Geometry {
    /// The server's plan for a file of `file_size` bytes.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when the plan does not cover exactly this file.
    pub fn of(upload: &Upload, file_size: u64) -> Result<Self, Error> {
        let Upload { chunk_size, total_chunks, .. } = *upload;
        let covers = upload.file_size == file_size
            && chunk_size > 0
            && file_size.div_ceil(chunk_size) == u64::from(total_chunks);
        if !covers {
            return Err(Error::Unexpected(format!(
                "its plan ({total_chunks} chunks of {chunk_size} bytes for {} bytes) does not fit \
                 the file of {file_size} bytes",
                upload.file_size
            )));
        }
        Ok(Self { file_size, chunk_size, total_chunks })
    }

    /// The bytes of a chunk; empty for an index beyond the last.
    pub fn range(&self, chunk_index: u32) -> Range<u64> {
        let start = u64::from(chunk_index).saturating_mul(self.chunk_size).min(self.file_size);
        let end = start.saturating_add(self.chunk_size).min(self.file_size);
        start..end
    }

    /// The length of a chunk in bytes.
    pub fn len(&self, chunk_index: u32) -> u64 {
        let range = self.range(chunk_index);
        range.end - range.start
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.total_chunks == 0
    }

    /// The chunks that the server does not count as uploaded, ascending.
    pub fn missing(&self, uploaded: &[u32]) -> Vec<u32> {
        let uploaded: std::collections::HashSet<u32> = uploaded.iter().copied().collect();
        (0..self.total_chunks).filter(|index| !uploaded.contains(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_cover_a_file_once_and_in_order(file_size in 0u64..1_000_000, chunk_size in 100u64..1_000_000) {
            let total_chunks = file_size.div_ceil(chunk_size) as u32;
            let geometry = Geometry { file_size, chunk_size, total_chunks };
            let mut at = 0;
            for index in 0..total_chunks {
                let range = geometry.range(index);
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > range.start);
                at = range.end;
            }
            prop_assert_eq!(at, file_size);
            prop_assert_eq!(geometry.len(total_chunks), 0);
        }

        #[test]
        fn missing_and_uploaded_make_the_whole(total_chunks in 0u32..200, uploaded in proptest::collection::btree_set(0u32..200, 0..200)) {
            let geometry = Geometry { file_size: u64::from(total_chunks), chunk_size: 1, total_chunks };
            let uploaded: Vec<u32> = uploaded.into_iter().filter(|i| *i < total_chunks).collect();
            let mut all = geometry.missing(&uploaded);
            all.extend(&uploaded);
            all.sort_unstable();
            prop_assert_eq!(all, (0..total_chunks).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_largest_file_does_not_overflow() {
        let geometry = Geometry { file_size: u64::MAX, chunk_size: u64::MAX / 2, total_chunks: 3 };
        assert_eq!(geometry.len(2), 1);
        assert_eq!(geometry.len(u32::MAX), 0);
    }
}
