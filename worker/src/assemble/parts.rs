//! The parts of the final object: copied inside S3, one chunk a part, or, for chunks too small for
//! that, read and sent again as larger parts in bounded memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, FuturesOrdered, StreamExt, TryStreamExt};
use memmap2::MmapMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upflow_core::checksum::{Checksum, Combiner, Hasher};
use upflow_core::plan::Part;
use upflow_core::storage::{Multipart, NewMultipart, ObjectKey, UploadedPart, chunk_index, chunks};
use upflow_core::uploads::{self, CopiedPart};
use uuid::Uuid;

use super::{Assembly, Stopped};

/// Parts are recorded when so many wait for it,
const RECORD_BATCH: usize = 100;
/// or when one has waited this long: a worker that is killed has copied no more than that for nothing.
const RECORD_AFTER: Duration = Duration::from_millis(250);
/// Chunks of one part that are read at once.
const READS: usize = 8;
/// Bytes; the last chunk of a file may be smaller, and is then sent like the small chunks are.
const SMALLEST_COPY: i64 = 4 * 1024;
/// HEADs at once when chunks were found changed.
const HEADS: usize = 16;

/// The memory of a streamed part, counted until the last of it is dropped. It is mapped, so that all of it
/// goes back to the system then: the allocator would keep freed blocks of this size, some for each thread.
struct Block {
    bytes: MmapMut,
    _counted: OwnedSemaphorePermit,
}

impl Block {
    /// Waits until so many bytes of `memory` are free.
    async fn new(memory: Arc<Semaphore>, length: i64) -> Result<Block, Stopped> {
        let too_large = || Stopped::transient("a part does not fit the memory");
        let length = u32::try_from(length).map_err(|_| too_large())?;
        let counted = memory.acquire_many_owned(length).await.map_err(|_| too_large())?;
        let mapped = MmapMut::map_anon(length as usize);
        let bytes =
            mapped.map_err(|error| Stopped::transient(format!("no memory for a part: {error}")))?;
        Ok(Block { bytes, _counted: counted })
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Assembly<'_> {
    /// The multipart upload of the row, or a new one.
    pub(super) async fn multipart(&self) -> Result<(Multipart, Uuid), Stopped> {
        let (upload, ctx) = (self.upload, &self.worker.ctx);
        let algorithm = upload.checksum_algorithm;
        if let (Some(id), Some(assembly_id)) = (&upload.multipart_upload_id, upload.assembly_id) {
            let multipart =
                Multipart { key: self.final_key.clone(), upload_id: id.clone(), algorithm };
            return Ok((multipart, assembly_id));
        }
        let assembly_id = Uuid::new_v4();
        let new = NewMultipart {
            key: self.final_key.clone(),
            filename: &self.filename,
            content_type: &upload.content_type,
            algorithm,
            assembly_id,
        };
        let multipart = ctx.storage.create_multipart(new).await?;
        let (id, multipart_id) = (upload.upload_id, Some(multipart.upload_id.as_str()));
        let kept = uploads::set_multipart(&ctx.db, id, self.lease, multipart_id, assembly_id);
        let kept = self.worker.ask(kept).await;
        if let Err(error) = kept {
            // Nobody else knows of it. Where this fails too, clean-up finds it by its key.
            let aborted = ctx.storage.abort_multipart(&self.final_key, &multipart.upload_id).await;
            if let Err(error) = aborted {
                tracing::warn!(upload.id = %upload.upload_id, %error, "a multipart upload was left");
            }
            return Err(error.into());
        }
        Ok((multipart, assembly_id))
    }

    /// Brings the chunks of these parts into them, those that are there already excepted. After an error, or
    /// once it is not to `go_on`, no copy begins; those under way end, and are recorded.
    pub(super) async fn copy_parts(
        &self,
        to: &Multipart,
        parts: Vec<Part>,
        go_on: impl Fn() -> bool,
    ) -> Result<Vec<UploadedPart>, Stopped> {
        let fresh = self.upload.multipart_upload_id.is_none();
        let (mut done, mut open) = (Vec::new(), Vec::new());
        for part in parts {
            match self.part_that_is_there(&part).filter(|_| !fresh) {
                Some(there) => done.push(there),
                None => open.push(part),
            }
        }
        let failed = AtomicBool::new(false);
        let go_on = || !failed.load(Ordering::Relaxed) && go_on();
        let copies = stream::iter(open)
            .map(|part| async {
                let _place = self.places.acquire().await;
                if !go_on() {
                    return Err(Stopped::Halted);
                }
                let sent = self
                    .bring(to, &part, &go_on)
                    .await
                    .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                Ok((part, sent))
            })
            .buffer_unordered(self.worker.settings.copies);
        let batches = tokio_stream::StreamExt::chunks_timeout(copies, RECORD_BATCH, RECORD_AFTER);
        let mut batches = std::pin::pin!(batches);
        let (mut lost, mut stopped) = (Vec::new(), None);
        while let Some(batch) = batches.next().await {
            let mut rows = Vec::new();
            for copied in batch {
                match copied {
                    Ok((part, sent)) => {
                        rows.extend(self.rows(&part, &sent)?);
                        done.push(sent);
                    }
                    Err(Stopped::ChunksLost(chunks)) => lost.extend(chunks),
                    // The first one that says something.
                    Err(Stopped::Halted) => stopped = stopped.or(Some(Stopped::Halted)),
                    Err(error) => match stopped {
                        None | Some(Stopped::Halted) => stopped = Some(error),
                        Some(_) => {}
                    },
                }
            }
            let db = &self.worker.ctx.db;
            let recorded = uploads::record_parts(db, self.upload.upload_id, self.lease, rows);
            self.worker.ask(recorded).await?;
        }
        if !lost.is_empty() {
            return Err(self.all_lost(lost).await?);
        }
        match stopped {
            Some(stopped) => Err(stopped),
            None => {
                done.sort_by_key(|part| part.number);
                Ok(done)
            }
        }
    }

    fn part_that_is_there(&self, part: &Part) -> Option<UploadedPart> {
        let mut chunks = part.chunks.clone().map(|index| self.chunks.get(&index)?.part.as_ref());
        let first = chunks.next()??;
        let same = chunks.all(|chunk| chunk == Some(first));
        let (etag, checksum) = first.clone();
        same.then_some(UploadedPart { number: part.number, etag, checksum })
    }

    fn rows(&self, part: &Part, sent: &UploadedPart) -> Result<Vec<CopiedPart>, Stopped> {
        let row = |index: i32| {
            Ok(CopiedPart {
                index,
                etag: self.chunk(index)?.etag.clone(),
                part_etag: sent.etag.clone(),
                part_checksum: sent.checksum.clone(),
            })
        };
        part.chunks.clone().map(row).collect()
    }

    async fn bring(
        &self,
        to: &Multipart,
        part: &Part,
        go_on: &impl Fn() -> bool,
    ) -> Result<UploadedPart, Stopped> {
        // Some servers copy nothing smaller.
        if self.plan.copies_inside_s3() && part.len >= SMALLEST_COPY {
            self.copy(to, part.number, part.chunks.start).await
        } else {
            self.stream(to, part, go_on).await
        }
    }

    async fn copy(&self, to: &Multipart, number: i32, index: i32) -> Result<UploadedPart, Stopped> {
        let storage = &self.worker.ctx.storage;
        let chunk = self.chunk(index)?;
        let from = ObjectKey::Chunk { upload_id: self.upload.upload_id, index };
        let copied = storage
            .copy_part(to, number, &from, &chunk.etag)
            .await
            .map_err(|error| Stopped::by_copy(error, index, &chunk.etag))?;
        let lost = || Stopped::ChunksLost(vec![(index, chunk.etag.clone())]);
        match (&copied.checksum, chunk.checksum) {
            (Some(copied), Some(confirmed)) if *copied != confirmed.to_string() => Err(lost()),
            (Some(_), Some(_)) => Ok(copied),
            // Without checksums to compare, the chunk is at least still the one that was confirmed:
            // some servers ignore the condition of the copy.
            _ => match storage.head(&from).await? {
                Some(head) if head.etag == chunk.etag => Ok(copied),
                _ => Err(lost()),
            },
        }
    }

    /// Reads the chunks of the part, several at once, and sends them as one.
    async fn stream(
        &self,
        to: &Multipart,
        part: &Part,
        go_on: &impl Fn() -> bool,
    ) -> Result<UploadedPart, Stopped> {
        let mut block = Block::new(self.worker.memory.clone(), part.len).await?;
        // Those that wait for memory in front of an upload that waits for its end let it pass.
        if !go_on() {
            return Err(Stopped::Halted);
        }
        let mut places =
            part.chunks.clone().zip(block.bytes.chunks_mut(self.plan.chunk_size as usize));
        let mut checksum = Combiner::new(to.algorithm);
        let mut reads = FuturesOrdered::new();
        loop {
            let free = READS.saturating_sub(reads.len());
            reads.extend(
                places.by_ref().take(free).map(|(index, place)| self.read_chunk(index, place)),
            );
            let Some((index, chunk)) = reads.try_next().await? else { break };
            checksum.append(chunk, self.plan.chunk_len(index));
        }
        drop(reads);
        let (storage, bytes) = (&self.worker.ctx.storage, Bytes::from_owner(block));
        let sent = storage.put_part(to, part.number, bytes, checksum.finish()).await;
        sent.map_err(Stopped::by_put)
    }

    /// Fills `place` with a chunk, if it is still the one that was confirmed, and answers its checksum.
    async fn read_chunk(&self, index: i32, place: &mut [u8]) -> Result<(i32, Checksum), Stopped> {
        let chunk = self.chunk(index)?;
        let lost = || Stopped::ChunksLost(vec![(index, chunk.etag.clone())]);
        let key = ObjectKey::Chunk { upload_id: self.upload.upload_id, index };
        let storage = &self.worker.ctx.storage;
        let mut body = storage
            .get(&key, &chunk.etag)
            .await
            .map_err(|error| Stopped::by_copy(error, index, &chunk.etag))?;
        let mut filled = 0;
        while let Some(piece) = body.next().await? {
            let end = filled + piece.len();
            place.get_mut(filled..end).ok_or_else(lost)?.copy_from_slice(&piece);
            filled = end;
        }
        if filled != place.len() {
            return Err(Stopped::transient(format!("chunk {index} was cut off")));
        }
        let mut hasher = Hasher::new(self.upload.checksum_algorithm);
        hasher.update(place);
        let checksum = hasher.finish();
        if chunk.checksum.is_some_and(|confirmed| confirmed != checksum) {
            return Err(lost());
        }
        Ok((index, checksum))
    }

    /// One chunk seemed gone or changed: names all that are, so that the client can send them in one go.
    /// The listing says where to look; HEAD, which said what was confirmed, decides.
    async fn all_lost(&self, first: Vec<(i32, String)>) -> Result<Stopped, Stopped> {
        let id = self.upload.upload_id;
        let storage = &self.worker.ctx.storage;
        let mut suspects: BTreeSet<i32> = self.chunks.keys().copied().collect();
        let mut next = None;
        loop {
            let page = storage.list(&chunks(id), next).await?;
            for object in page.objects {
                if let Some(index) = chunk_index(id, &object.key)
                    && self.chunks.get(&index).is_some_and(|chunk| chunk.etag == object.etag)
                {
                    suspects.remove(&index);
                }
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        suspects.extend(first.iter().map(|(index, _)| index));
        let lost: Vec<Option<(i32, String)>> = stream::iter(suspects)
            .map(|index| async move {
                let head = storage.head(&ObjectKey::Chunk { upload_id: id, index }).await?;
                let etag = &self.chunk(index)?.etag;
                let intact = head.is_some_and(|head| head.etag == *etag);
                Ok::<_, Stopped>((!intact).then(|| (index, etag.clone())))
            })
            .buffered(HEADS)
            .try_collect()
            .await?;
        let lost: Vec<(i32, String)> = lost.into_iter().flatten().collect();
        if lost.is_empty() {
            // Then what was not found is what the part should have gone to.
            let why = format!("chunks {first:?} could not be copied, and are there as they were");
            return Ok(Stopped::MultipartGone(why));
        }
        Ok(Stopped::ChunksLost(lost))
    }
}
