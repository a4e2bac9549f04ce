//! Geometry: how a file is cut into chunks, and how the chunks become the parts of a multipart upload.
//! Limits are those of S3 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>):
//! parts of 5 MiB to 5 GiB, the last one may be smaller, 10,000 parts. All sizes are bytes.

use std::ops::Range;

pub const KIB: i64 = 1024;
pub const MIB: i64 = 1024 * KIB;
pub const GIB: i64 = 1024 * MIB;

/// What a caller may ask for as `chunk_size`.
pub const MIN_CHUNK_SIZE: i64 = 64 * KIB;
pub const MAX_CHUNK_SIZE: i64 = 5 * GIB;
/// `chunk_size` when the caller asks for none and the file is not too large for it.
pub const DEFAULT_CHUNK_SIZE: i64 = 8 * MIB;
pub const MAX_CHUNKS: i64 = 10_000;
/// The smallest part S3 takes, but for the last one.
pub const MIN_PART_SIZE: i64 = 5 * MIB;
/// What a part made of several small chunks should reach.
const STREAMED_PART_SIZE: i64 = 8 * MIB;
/// Chunks that a client is thought to have under way at once.
const MOST_SIDE_BY_SIDE: i64 = 16;
pub const MAX_FILE_SIZE: i64 = MAX_CHUNKS * MAX_CHUNK_SIZE;

/// How a file of `file_size` bytes is cut: every chunk has `chunk_size` bytes but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub file_size: i64,
    pub chunk_size: i64,
    pub total_chunks: i32,
}

/// Why a file cannot be cut as asked. The text says what would fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("file_size must be between 0 and {MAX_FILE_SIZE} bytes (10,000 chunks of 5 GiB)")]
    FileSize,
    #[error(
        "chunk_size must be between {MIN_CHUNK_SIZE} bytes (64 KiB) and {MAX_CHUNK_SIZE} bytes (5 GiB)"
    )]
    ChunkSize,
    #[error(
        "a file has at most {1} chunks: this one needs a chunk_size of at least {0} bytes, or leave chunk_size out"
    )]
    TooManyChunks(i64, i64),
}

impl Plan {
    /// Cuts a file of `file_size` bytes into chunks of `chunk_size` bytes, or, where none is asked
    /// for, of 8 MiB grown by whole MiB until 10,000 chunks suffice.
    pub fn new(file_size: i64, chunk_size: Option<i64>) -> Result<Self, PlanError> {
        Self::within(file_size, chunk_size, MAX_CHUNKS)
    }

    /// The same with at most `max_chunks`, 1 to 10,000.
    pub fn within(
        file_size: i64,
        chunk_size: Option<i64>,
        max_chunks: i64,
    ) -> Result<Self, PlanError> {
        let max_chunks = max_chunks.clamp(1, MAX_CHUNKS);
        if !(0..=MAX_FILE_SIZE).contains(&file_size) {
            return Err(PlanError::FileSize);
        }
        let needed = div_ceil(file_size, max_chunks);
        if needed > MAX_CHUNK_SIZE {
            return Err(PlanError::TooManyChunks(needed, max_chunks));
        }
        let chunk_size = match chunk_size {
            Some(asked) if !(MIN_CHUNK_SIZE..=MAX_CHUNK_SIZE).contains(&asked) => {
                return Err(PlanError::ChunkSize);
            }
            Some(asked) if asked < needed => {
                return Err(PlanError::TooManyChunks(needed, max_chunks));
            }
            Some(asked) => asked,
            None => DEFAULT_CHUNK_SIZE.max(div_ceil(needed, MIB) * MIB),
        };
        // At most MAX_CHUNKS by the checks above, so it fits.
        let total_chunks = div_ceil(file_size, chunk_size) as i32;
        Ok(Self { file_size, chunk_size, total_chunks })
    }

    /// Whether the file has a chunk of this index.
    pub fn has_chunk(&self, index: i32) -> bool {
        (0..self.total_chunks).contains(&index)
    }

    /// The bytes of chunk `index`; 0 where there is no such chunk.
    pub fn chunk_len(&self, index: i32) -> i64 {
        if !self.has_chunk(index) {
            return 0;
        }
        let start = i64::from(index) * self.chunk_size;
        self.chunk_size.min(self.file_size - start)
    }

    /// Chunks go into the final object by copies inside S3, one part each, and not through the worker.
    pub fn copies_inside_s3(&self) -> bool {
        self.chunk_size >= MIN_PART_SIZE
    }

    /// The parts of the final object in order, covering every chunk exactly once.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let plan = *self;
        let per_part = plan.chunks_per_part();
        let total = plan.total_chunks;
        (0..div_ceil(i64::from(total), i64::from(per_part)) as i32).map(move |i| {
            let first = i * per_part;
            let chunks = first..total.min(first + per_part);
            Part { number: i + 1, len: chunks.clone().map(|c| plan.chunk_len(c)).sum(), chunks }
        })
    }

    /// Whether the last `more` of `confirmed` chunks are likely to have made a part whole: a guess by their number
    /// alone, where all of them would have to be looked at otherwise. A few more than a part has are waited for,
    /// since chunks that are sent side by side are not confirmed in order.
    pub fn fills_a_part(&self, confirmed: i64, more: i64) -> bool {
        let per_part = i64::from(self.chunks_per_part());
        let total = i64::from(self.total_chunks);
        let few = MOST_SIDE_BY_SIDE.min(per_part / 2);
        let filled = |chunks: i64| {
            if chunks >= total {
                return div_ceil(total, per_part);
            }
            (chunks - few).max(0) / per_part
        };
        filled(confirmed) > filled(confirmed - more)
    }

    /// One, or of chunks too small for that so many that they make a part together; the last part may have fewer.
    pub fn chunks_per_part(&self) -> i32 {
        if self.copies_inside_s3() {
            1
        } else {
            // At most 128, for chunks of 64 KiB; 10,000 chunks give fewer parts than that.
            div_ceil(STREAMED_PART_SIZE, self.chunk_size) as i32
        }
    }
}

/// A part of the multipart upload: number from 1, made of whole chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub number: i32,
    pub chunks: Range<i32>,
    pub len: i64,
}

fn div_ceil(a: i64, b: i64) -> i64 {
    a / b + i64::from(a % b > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_file_has_no_chunks_and_no_parts() {
        let plan = Plan::new(0, None).unwrap();
        assert_eq!((plan.total_chunks, plan.parts().count()), (0, 0));
    }

    #[test]
    fn the_default_grows_by_whole_mebibytes_once_ten_thousand_chunks_do_not_suffice() {
        let limit = DEFAULT_CHUNK_SIZE * MAX_CHUNKS;
        assert_eq!(Plan::new(limit, None).unwrap().chunk_size, DEFAULT_CHUNK_SIZE);
        let larger = Plan::new(limit + 1, None).unwrap();
        assert_eq!(larger.chunk_size, 9 * MIB);
        assert_eq!(Plan::new(MAX_FILE_SIZE, None).unwrap().chunk_size, 5 * GIB);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_text_says_what_would() {
        assert_eq!(Plan::new(-1, None), Err(PlanError::FileSize));
        assert_eq!(Plan::new(MAX_FILE_SIZE + 1, None), Err(PlanError::FileSize));
        assert_eq!(Plan::new(1, Some(MIN_CHUNK_SIZE - 1)), Err(PlanError::ChunkSize));
        assert_eq!(Plan::new(1, Some(MAX_CHUNK_SIZE + 1)), Err(PlanError::ChunkSize));
        let refused = Plan::new(10 * GIB, Some(MIN_CHUNK_SIZE)).unwrap_err();
        assert_eq!(refused, PlanError::TooManyChunks(1_073_742, MAX_CHUNKS));
        assert!(Plan::new(10 * GIB, Some(1_073_742)).is_ok());
    }

    #[test]
    fn each_part_is_said_to_be_full_once_after_it_is_and_the_last_one_with_the_last_chunk() {
        let said = |chunk_size, chunks| {
            let plan = Plan::new(chunks * chunk_size, Some(chunk_size)).unwrap();
            (1..=chunks).filter(|confirmed| plan.fills_a_part(*confirmed, 1)).collect::<Vec<_>>()
        };
        assert_eq!(said(5 * MIB, 3), [1, 2, 3]);
        assert_eq!(said(4 * MIB, 6), [3, 5, 6]);
        assert_eq!(said(MIB, 17), [12, 17]);
        assert_eq!(said(64 * KIB, 300), [144, 272, 300]);
        let plan = Plan::new(300 * 64 * KIB, Some(64 * KIB)).unwrap();
        assert!(plan.fills_a_part(200, 100), "with many others");
        assert!(!plan.fills_a_part(140, 140) && !plan.fills_a_part(200, 50));
        assert!(!plan.fills_a_part(300, 0), "nothing is new");
    }

    proptest! {
        #[test]
        fn chunks_and_parts_cover_every_byte_once_within_the_limits_of_s3(
            file_size in 0..=MAX_FILE_SIZE,
            chunk_size in proptest::option::of(MIN_CHUNK_SIZE..=64 * MIB),
        ) {
            let Ok(plan) = Plan::new(file_size, chunk_size) else { return Ok(()) };
            prop_assert!(i64::from(plan.total_chunks) <= MAX_CHUNKS);
            let bytes: i64 = (0..plan.total_chunks).map(|i| plan.chunk_len(i)).sum();
            prop_assert_eq!(bytes, file_size);

            let parts: Vec<Part> = plan.parts().collect();
            let mut next = 0;
            for (i, part) in parts.iter().enumerate() {
                prop_assert_eq!(part.number as usize, i + 1);
                prop_assert_eq!(part.chunks.start, next);
                prop_assert!(part.len <= 5 * GIB);
                if i + 1 < parts.len() {
                    prop_assert!(part.len >= MIN_PART_SIZE);
                }
                next = part.chunks.end;
            }
            prop_assert_eq!(next, plan.total_chunks);
            prop_assert!(parts.len() as i64 <= MAX_CHUNKS);
        }
    }
}
