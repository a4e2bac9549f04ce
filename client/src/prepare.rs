//! Gets chunks ready to be sent, a batch at a time and a little ahead of need: reads their checksums
//! and has URLs signed that are bound to them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::CHUNKS_PER_CALL;
use crate::checksum;
use crate::error::Error;
use crate::put::Ready;
use crate::send::{Item, Job};
use crate::wire::{ChunkWant, Presigned};

/// How far checksums are read ahead of the sending, so that the second reading meets the page cache.
const AHEAD: u64 = 256 * 1024 * 1024;
/// A batch that was used up sooner than this could have been larger,
const SOON: Duration = Duration::from_secs(30);
/// and one that lasted longer should be smaller: URLs live for 15 minutes by default.
const LATE: Duration = Duration::from_secs(120);

/// Checksums and URLs for `items`, in their order.
pub(crate) async fn prepare(job: &Arc<Job>, mut items: Vec<Item>) -> Result<Vec<Ready>, Error> {
    read_checksums(job, &mut items).await?;
    let wants: Vec<ChunkWant> = items
        .iter()
        .map(|item| ChunkWant { chunk_index: item.chunk_index, checksum: item.checksum.clone() })
        .collect();
    let asked = Instant::now();
    let presigned = job.api.presign(&job.upload_id, &wants).await?;
    pair(job, items, presigned, asked)
}

/// Joins each chunk with the URL signed for it.
pub(crate) fn pair(
    job: &Job,
    items: Vec<Item>,
    presigned: Vec<Presigned>,
    asked: Instant,
) -> Result<Vec<Ready>, Error> {
    let mut presigned: HashMap<u32, Presigned> =
        presigned.into_iter().map(|one| (one.chunk_index, one)).collect();
    let mut ready = Vec::with_capacity(items.len());
    for item in items {
        let index = item.chunk_index;
        let one = presigned.remove(&index).ok_or_else(|| {
            Error::Unexpected(format!("it signed no URL for chunk {index}, which was asked for"))
        })?;
        ready.push(Ready::new(item, one, asked, job.geometry.len(index))?);
    }
    Ok(ready)
}

async fn read_checksums(job: &Arc<Job>, items: &mut [Item]) -> Result<(), Error> {
    let mut lacking: Vec<&mut Item> = items.iter_mut().filter(|i| i.checksum.is_none()).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let ranges: Vec<Range<u64>> =
        lacking.iter().map(|item| job.geometry.range(item.chunk_index)).collect();
    let shared = job.clone();
    let checksums = tokio::task::spawn_blocking(move || {
        checksum::of_ranges(&shared.path, shared.algorithm, &ranges, &shared.stop)
    })
    .await
    .map_err(Error::Internal)?
    .map_err(|error| Error::reading(&job.path, error))?;
    for (item, checksum) in lacking.iter_mut().zip(checksums) {
        item.checksum = Some(checksum);
    }
    Ok(())
}

/// How many chunks to prepare at once. It begins small, so that sending begins at once, grows while
/// batches are used up fast, and shrinks when URLs would grow old.
pub(crate) struct Window {
    least: usize,
    most: usize,
    now: usize,
    last: Option<Instant>,
}

impl Window {
    pub fn new(parallel: usize, chunk_size: u64) -> Self {
        let fit = usize::try_from(AHEAD / chunk_size.max(1)).unwrap_or(CHUNKS_PER_CALL);
        let most = fit.clamp(1, CHUNKS_PER_CALL);
        let least = parallel.min(most);
        Self { least, most, now: least, last: None }
    }

    /// The size of the batch that is asked for now.
    pub fn next(&mut self, now: Instant) -> usize {
        let lasted = self.last.replace(now).map(|last| now - last);
        self.now = match lasted {
            Some(lasted) if lasted < SOON => (self.now * 2).min(self.most),
            Some(lasted) if lasted > LATE => (self.now / 2).max(self.least),
            _ => self.now,
        };
        self.now
    }

    /// With fewer chunks ready than this, the next batch is due.
    pub fn refill_below(&self) -> usize {
        self.least.max(self.now / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn batches_grow_while_the_line_is_fast_and_shrink_when_it_is_slow() {
        let mut window = Window::new(8, 8 << 20);
        let start = Instant::now();
        let fast: Vec<_> = (0..4).map(|n| window.next(start + Duration::from_secs(n))).collect();
        assert_eq!(fast, [8, 16, 32, 32]);
        let slow: Vec<_> = (1..4).map(|n| window.next(start + n * 10 * LATE)).collect();
        assert_eq!(slow, [16, 8, 8]);
    }

    #[test]
    fn the_largest_chunks_are_prepared_one_at_a_time() {
        let mut window = Window::new(8, 5 << 30);
        assert_eq!((window.next(Instant::now()), window.refill_below()), (1, 1));
    }

    proptest! {
        #[test]
        fn a_batch_fits_one_call(parallel in 1usize..=64, chunk_size in 1u64..(5 << 30), waits in proptest::collection::vec(0u64..300, 0..20)) {
            let mut window = Window::new(parallel, chunk_size);
            let mut now = Instant::now();
            for wait in waits {
                now += Duration::from_secs(wait);
                let count = window.next(now);
                prop_assert!((1..=CHUNKS_PER_CALL).contains(&count));
                prop_assert!((1..=CHUNKS_PER_CALL).contains(&window.refill_below()));
            }
        }
    }
}
