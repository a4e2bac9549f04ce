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
        checksum: Option<Checksum>,
    ) -> Result<(), Stopped> {
        let storage = &self.worker.ctx.storage;
        let completed = storage.complete_multipart(multipart, parts, checksum).await;
        if let Some(found) = self.look(assembly_id, checksum).await? {
            return self.finish(found, checksum).await;
        }
        match completed {
            Ok(()) => Err(Stopped::transient("completed, but the object is not there")),
            Err(error) => match error.kind {
                ErrorKind::NoSuchUpload | ErrorKind::NotFound => {
                    Err(Stopped::MultipartGone(error.to_string()))
                }
                // The parts are not what their checksums said: nothing of this one can be trusted.
                ErrorKind::BadChecksum | ErrorKind::BadPart => {
                    storage.abort_multipart(&self.final_key, &multipart.upload_id).await?;
                    Err(Stopped::MultipartGone(error.to_string()))
                }
                _ => Err(error.into()),
            },
        }
    }

    pub(super) async fn put_empty_file(&self, checksum: Option<Checksum>) -> Result<(), Stopped> {
        let (ctx, upload) = (&self.worker.ctx, self.upload);
        let assembly_id = Uuid::new_v4();
        let id = upload.upload_id;
        let kept = uploads::set_multipart(&ctx.db, id, self.lease, None, assembly_id);
        self.worker.ask(kept).await?;
        ctx.storage
            .put_empty(&self.final_key, &self.filename, &upload.content_type, assembly_id)
            .await?;
        if let Some(found) = self.look(assembly_id, checksum).await? {
            return self.finish(found, checksum).await;
        }
        Err(Stopped::transient("put, but the object is not there"))
    }

    /// The final object, if it is there and made by this assembly, and whole.
    async fn look(
        &self,
        assembly_id: Uuid,
        combined: Option<Checksum>,
    ) -> Result<Option<Found>, Stopped> {
        let Some(head) = self.worker.ctx.storage.head(&self.final_key).await? else {
            return Ok(None);
        };
        if head.assembly_id != Some(assembly_id) {
            return Ok(None);
        }
        let checksum = head.checksum(self.upload.checksum_algorithm);
        let wrong = match (checksum, combined) {
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
    async fn finish(&self, found: Found, combined: Option<Checksum>) -> Result<(), Stopped> {
        let integrity = Integrity { level: self.level(found, combined).await, value: combined };
        let (db, id) = (&self.worker.ctx.db, self.upload.upload_id);
        let finished = uploads::finish(db, id, self.lease, integrity, now());
        self.worker.ask(finished).await?;
        Ok(())
    }

    /// What was proven, and no more: the weakest of all chunks, unless the whole was compared, and of the steps of this
    /// server.
    async fn level(&self, found: Found, combined: Option<Checksum>) -> &'static str {
        if self.chunks.is_empty() {
            // Of an empty file there is nothing to check.
            return "storage_verified";
        }
        if !self.chunks.values().all(|chunk| chunk.declared) {
            // What is known of the whole was compared with what the client gave at init, before it was made.
            let compared = self.upload.checksum.is_some() && combined.is_some();
            return if compared { "client_checksums" } else { "size_only" };
        }
        if found.checksum.is_none() || found.checksum != combined {
            return "client_checksums";
        }
        let storage = &self.worker.ctx.storage;
        match storage.abilities(self.upload.checksum_algorithm).await {
            Ok(abilities) if abilities.refuses_wrong_chunks && abilities.refuses_wrong_files => {
                "storage_verified"
            }
            Ok(_) => "client_checksums",
            Err(error) => {
                let id = self.upload.upload_id;
                tracing::warn!(upload.id = %id, %error, "what the storage enforces is not known");
                "client_checksums"
            }
        }
    }
}
