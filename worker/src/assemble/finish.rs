//! The end of an assembly: make the object, look whether it is the right one, and only then say so.

use upflow_core::checksum::Checksum;
use upflow_core::db::now;
use upflow_core::storage::{ErrorKind, Multipart, UploadedPart};
use upflow_core::uploads::{self, Failure, Integrity};
use uuid::Uuid;

use super::{Assembly, Stopped};

/// A final object that is right.
pub(super) struct Found {
    /// What S3 keeps of the whole of it.
    checksum: Option<Checksum>,
}

impl Assembly<'_> {
    /// Makes the final object of the parts. What counts is not Complete's answer but what is there.
    pub(super) async fn complete(
        &self,
        multipart: &Multipart,
        assembly_id: Uuid,
        parts: &[UploadedPart],
    ) -> Result<(), Stopped> {
        let completed =
            self.worker.ctx.storage.complete_multipart(multipart, parts, self.checksum).await;
        if let Some(found) = self.look(assembly_id).await? {
            return self.finish(found).await;
        }
        match completed {
            Ok(()) => Err(Stopped::transient("completed, but the object is not there")),
            Err(error) => match error.kind {
                ErrorKind::NoSuchUpload | ErrorKind::NotFound => {
                    Err(Stopped::MultipartGone(error.to_string()))
                }
                // The parts are not what their checksums said: nothing of this one can be trusted.
                ErrorKind::BadChecksum | ErrorKind::BadPart => {
                    let storage = &self.worker.ctx.storage;
                    storage.abort_multipart(&self.final_key, &multipart.upload_id).await?;
                    Err(Stopped::MultipartGone(error.to_string()))
                }
                _ => Err(error.into()),
            },
        }
    }

    pub(super) async fn put_empty_file(&self) -> Result<(), Stopped> {
        let (ctx, upload) = (&self.worker.ctx, self.upload);
        let assembly_id = Uuid::new_v4();
        uploads::set_multipart(&ctx.db, upload.upload_id, self.lease, None, assembly_id).await?;
        ctx.storage
            .put_empty(&self.final_key, &self.filename, &upload.content_type, assembly_id)
            .await?;
        if let Some(found) = self.look(assembly_id).await? {
            return self.finish(found).await;
        }
        Err(Stopped::transient("put, but the object is not there"))
    }

    /// The final object, if it is there and made by this assembly, and whole.
    pub(super) async fn look(&self, assembly_id: Uuid) -> Result<Option<Found>, Stopped> {
        let Some(head) = self.worker.ctx.storage.head(&self.final_key).await? else {
            return Ok(None);
        };
        if head.assembly_id != Some(assembly_id) {
            return Ok(None);
        }
        let checksum = head.checksum(self.upload.checksum_algorithm);
        let wrong = match (checksum, self.checksum) {
            (Some(found), Some(combined)) => found != combined,
            _ => false,
        };
        if wrong || head.size != self.upload.file_size {
            return Err(Stopped::Refused(Failure {
                code: "storage_inconsistent".to_owned(),
                detail: format!(
                    "the storage made an object of {} bytes that is not the file: complete again",
                    head.size
                ),
                chunk_indexes: Vec::new(),
            }));
        }
        Ok(Some(Found { checksum }))
    }

    /// Commits `completed`.
    pub(super) async fn finish(&self, found: Found) -> Result<(), Stopped> {
        let level = if !self.chunks.iter().all(|chunk| chunk.declared) {
            "size_only"
        } else if found.checksum.is_some() && found.checksum == self.checksum {
            "storage_verified"
        } else {
            "client_checksums"
        };
        // Of an empty file there is nothing to check.
        let level = if self.chunks.is_empty() { "storage_verified" } else { level };
        let integrity = Integrity { level, value: self.checksum };
        let db = &self.worker.ctx.db;
        uploads::finish(db, self.upload.upload_id, self.lease, integrity, now()).await?;
        Ok(())
    }
}
