//! The parts of the final object: copied inside S3, one chunk a part, or, for chunks too small for
//! that, read and sent again as larger parts in bounded memory.

use std::collections::BTreeSet;

use bytes::BytesMut;
use futures::stream::{self, StreamExt, TryStreamExt};
use upflow_core::checksum::Hasher;
use upflow_core::plan::Part;
use upflow_core::storage::{
    ErrorKind, Multipart, NewMultipart, ObjectKey, StorageError, UploadedPart, chunk_index, chunks,
};
use upflow_core::uploads::{self, CopiedPart};
use uuid::Uuid;

use super::{Assembly, Stopped, copy_error};

/// The most parts that wait to be recorded.
const RECORD_BATCH: usize = 100;
/// Bytes; the last chunk of a file may be smaller, and is then sent like the small chunks are.
const SMALLEST_COPY: i64 = 4 * 1024;
/// HEADs at once when chunks were found changed.
const HEADS: usize = 16;

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
        let kept = uploads::set_multipart(
            &ctx.db,
            upload.upload_id,
            self.lease,
            Some(&multipart.upload_id),
            assembly_id,
        )
        .await;
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

    /// Brings every chunk into its part, those that are there already excepted.
    pub(super) async fn copy_parts(&self, to: &Multipart) -> Result<Vec<UploadedPart>, Stopped> {
        let fresh = self.upload.multipart_upload_id.is_none();
        let (mut done, mut open) = (Vec::new(), Vec::new());
        for part in self.plan.parts() {
            match self.part_that_is_there(&part).filter(|_| !fresh) {
                Some(there) => done.push(there),
                None => open.push(part),
            }
        }
        let copies = stream::iter(open)
            .map(|part| async move {
                let sent = self.bring(to, &part).await?;
                Ok::<_, Stopped>((part, sent))
            })
            .buffer_unordered(self.worker.settings.copies)
            .ready_chunks(RECORD_BATCH);
        let mut copies = std::pin::pin!(copies);
        while let Some(batch) = copies.next().await {
            let (mut rows, mut failed) = (Vec::new(), None);
            for copied in batch {
                match copied {
                    Ok((part, sent)) => {
                        rows.extend(self.rows(&part, &sent));
                        done.push(sent);
                    }
                    Err(stopped) => failed = Some(stopped),
                }
            }
            let db = &self.worker.ctx.db;
            uploads::record_parts(db, self.upload.upload_id, self.lease, rows).await?;
            match failed {
                Some(Stopped::ChunksLost(lost)) => return Err(self.all_lost(lost).await?),
                Some(stopped) => return Err(stopped),
                None => {}
            }
        }
        done.sort_by_key(|part| part.number);
        Ok(done)
    }

    fn part_that_is_there(&self, part: &Part) -> Option<UploadedPart> {
        let mut chunks = part.chunks.clone().map(|index| self.chunks[index as usize].part.as_ref());
        let first = chunks.next()??;
        let same = chunks.all(|chunk| chunk == Some(first));
        let (etag, checksum) = first.clone();
        same.then_some(UploadedPart { number: part.number, etag, checksum })
    }

    fn rows(&self, part: &Part, sent: &UploadedPart) -> Vec<CopiedPart> {
        let row = |index: i32| CopiedPart {
            index,
            etag: self.chunks[index as usize].etag.clone(),
            part_etag: sent.etag.clone(),
            part_checksum: sent.checksum.clone(),
        };
        part.chunks.clone().map(row).collect()
    }

    async fn bring(&self, to: &Multipart, part: &Part) -> Result<UploadedPart, Stopped> {
        // Some servers copy nothing smaller.
        if self.plan.copies_inside_s3() && part.len >= SMALLEST_COPY {
            self.copy(to, part.number, part.chunks.start).await
        } else {
            self.stream(to, part).await
        }
    }

    async fn copy(&self, to: &Multipart, number: i32, index: i32) -> Result<UploadedPart, Stopped> {
        let storage = &self.worker.ctx.storage;
        let chunk = &self.chunks[index as usize];
        let from = ObjectKey::Chunk { upload_id: self.upload.upload_id, index };
        let copied = storage
            .copy_part(to, number, &from, &chunk.etag)
            .await
            .map_err(|error| copy_error(error, index, &chunk.etag))?;
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

    async fn stream(&self, to: &Multipart, part: &Part) -> Result<UploadedPart, Stopped> {
        let too_large = || Stopped::transient("a part does not fit the memory");
        let bytes = u32::try_from(part.len).map_err(|_| too_large())?;
        let memory = self.worker.memory.clone();
        let _held = memory.acquire_many_owned(bytes).await.map_err(|_| too_large())?;
        let mut buffer = BytesMut::with_capacity(part.len as usize);
        let mut whole = Hasher::new(to.algorithm);
        for index in part.chunks.clone() {
            self.read_chunk(index, &mut buffer).await?;
        }
        whole.update(&buffer);
        let storage = &self.worker.ctx.storage;
        storage.put_part(to, part.number, buffer.freeze(), whole.finish()).await.map_err(put_error)
    }

    /// Appends a chunk, if it is still the one that was confirmed.
    async fn read_chunk(&self, index: i32, buffer: &mut BytesMut) -> Result<(), Stopped> {
        let chunk = &self.chunks[index as usize];
        let key = ObjectKey::Chunk { upload_id: self.upload.upload_id, index };
        let (start, len) = (buffer.len(), self.plan.chunk_len(index) as usize);
        let mut body = self
            .worker
            .ctx
            .storage
            .get(&key, &chunk.etag)
            .await
            .map_err(|error| copy_error(error, index, &chunk.etag))?;
        while let Some(piece) = body.next().await? {
            if buffer.len() + piece.len() > start + len {
                return Err(Stopped::ChunksLost(vec![(index, chunk.etag.clone())]));
            }
            buffer.extend_from_slice(&piece);
        }
        let mut hasher = Hasher::new(self.upload.checksum_algorithm);
        hasher.update(&buffer[start..]);
        if buffer.len() != start + len {
            return Err(Stopped::transient(format!("chunk {index} was cut off")));
        }
        if chunk.checksum.is_some_and(|confirmed| confirmed != hasher.finish()) {
            return Err(Stopped::ChunksLost(vec![(index, chunk.etag.clone())]));
        }
        Ok(())
    }

    /// One chunk seemed gone or changed: names all that are, so that the client can send them in one go.
    /// The listing says where to look; HEAD, which said what was confirmed, decides.
    async fn all_lost(&self, first: Vec<(i32, String)>) -> Result<Stopped, Stopped> {
        let id = self.upload.upload_id;
        let storage = &self.worker.ctx.storage;
        let mut suspects: BTreeSet<i32> = (0..self.plan.total_chunks).collect();
        let mut next = None;
        loop {
            let page = storage.list(&chunks(id), next).await?;
            for object in page.objects {
                if let Some(index) = chunk_index(id, &object.key)
                    && self.chunks.get(index as usize).is_some_and(|c| c.etag == object.etag)
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
                let etag = &self.chunks[index as usize].etag;
                let intact = head.is_some_and(|head| head.etag == *etag);
                Ok::<_, StorageError>((!intact).then(|| (index, etag.clone())))
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

/// The source of a sent part is our memory: only the multipart upload can be gone.
fn put_error(error: StorageError) -> Stopped {
    match error.kind {
        ErrorKind::NoSuchUpload | ErrorKind::NotFound => Stopped::MultipartGone(error.to_string()),
        _ => error.into(),
    }
}
