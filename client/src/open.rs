//! Finds the upload to work on: the one an earlier run began, as far as it is of any use, or a new one.

use std::path::PathBuf;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::Api;
use crate::checksum;
use crate::error::Error;
use crate::file::Fingerprint;
use crate::options::FileUpload;
use crate::progress::{Event, Listener};
use crate::state::{Identity, Place, Record, path_text};
use crate::wire::{ChunkWant, InitAnswer, InitRequest, Presigned, Status, Upload};

/// Up to this size a file is read before anything is said to the server, so that the URL for its only
/// chunk comes with the answer to init. Smaller than the server's default chunk.
const ONE_CHUNK: u64 = 5 * 1024 * 1024;

/// One run: a file, and the place where its upload is remembered.
pub(crate) struct Run {
    pub api: Api,
    pub file: FileUpload,
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    pub fingerprint: Fingerprint,
    pub listener: Listener,
    pub stop: CancellationToken,
    identity: Identity,
    place: Option<Place>,
    _stop_when_dropped: DropGuard,
}

/// An upload that the server knows.
pub(crate) struct Opened {
    pub upload: Upload,
    pub resumed: bool,
    pub presigned: Vec<Presigned>,
    /// Of the only chunk, if it was read already.
    pub checksum: Option<String>,
    /// When the URLs were asked for.
    pub asked: Instant,
}

impl Opened {
    fn resumed(upload: Upload) -> Self {
        let (presigned, checksum, asked) = (Vec::new(), None, Instant::now());
        Self { upload, resumed: true, presigned, checksum, asked }
    }
}

impl Run {
    /// Looks at the file and takes its place in the state directory.
    pub async fn begin(
        api: Api,
        server: String,
        state_dir: Option<PathBuf>,
        file: FileUpload,
        listener: Listener,
    ) -> Result<Self, Error> {
        let path = tokio::fs::canonicalize(&file.path)
            .await
            .map_err(|source| Error::File { path: file.path.clone(), source })?;
        let fingerprint = Fingerprint::of(&path).await?;
        let identity = Identity {
            server,
            path: path_text(&path),
            filename: file.name()?,
            chunk_size: file.chunk_size,
            content_type: file.content_type.clone(),
            metadata: file.metadata.clone(),
            algorithm: file.algorithm,
        };
        let place = state_dir.map(|dir| Place::lock(&dir, identity.clone())).transpose()?;
        let stop = CancellationToken::new();
        let _stop_when_dropped = stop.clone().drop_guard();
        let token = place.as_ref().and_then(Place::load).and_then(|record| record.upload_token);
        let api = api.telling(&listener).or_token(token.as_deref())?;
        Ok(Self {
            api,
            file,
            path,
            fingerprint,
            listener,
            stop,
            identity,
            place,
            _stop_when_dropped,
        })
    }

    pub async fn open(&self) -> Result<Opened, Error> {
        let Some(record) = self.place.as_ref().and_then(Place::load) else {
            return self.init(None).await;
        };
        if record.file != self.fingerprint {
            self.afresh("the file changed since");
            if let Some(upload_id) = &record.upload_id {
                self.abort(upload_id).await?;
            }
            return self.init(None).await;
        }
        let Some(upload_id) = &record.upload_id else {
            return self.init(Some(record.idempotency_key)).await;
        };
        match self.resume(upload_id).await {
            Ok(upload) => Ok(Opened::resumed(upload)),
            Err(error) if error.says_ended() => {
                self.afresh("the earlier upload of this file has ended on the server");
                self.init(None).await
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the upload on the server. Only a server that cannot be reached is an error: then the
    /// upload is still to be aborted.
    pub async fn abort(&self, upload_id: &str) -> Result<(), Error> {
        match self.api.briefly().abort(upload_id).await {
            Err(error) if error.api().is_none() => Err(error.into()),
            Ok(_) | Err(_) => {
                self.forget();
                Ok(())
            }
        }
    }

    pub fn forget(&self) {
        if let Some(place) = &self.place {
            place.forget();
        }
    }

    fn afresh(&self, reason: &str) {
        self.listener.tell(Event::StartedAfresh { reason: reason.to_owned() });
    }

    fn remember(
        &self,
        idempotency_key: &str,
        upload: Option<(String, Option<String>)>,
    ) -> Result<(), Error> {
        let Some(place) = &self.place else { return Ok(()) };
        let (upload_id, upload_token) = upload.unzip();
        place.save(&Record {
            identity: self.identity.clone(),
            file: self.fingerprint,
            idempotency_key: idempotency_key.to_owned(),
            upload_id,
            upload_token: upload_token.flatten(),
        })
    }

    /// The upload with its chunks counted anew, unless it is past that.
    async fn resume(&self, upload_id: &str) -> Result<Upload, Error> {
        let upload = self.api.briefly().get(upload_id).await?;
        match upload.status {
            Status::Aborted | Status::Expired => Err(Error::Ended { status: upload.status }),
            Status::Completed | Status::PendingAssembly | Status::Unknown => Ok(upload),
            Status::Initialized | Status::Uploading | Status::Failed => {
                Ok(self.api.reconcile(upload_id).await?)
            }
        }
    }

    /// `remembered` is the key of an init whose answer never arrived. It gives the upload it made, if
    /// it made one that is of use.
    async fn init(&self, mut remembered: Option<String>) -> Result<Opened, Error> {
        let checksum = self.checksum_of_only_chunk().await?;
        let request = self.init_request(checksum.clone());
        loop {
            let old_key = remembered.take();
            let replay = old_key.is_some();
            let key = old_key.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
            self.remember(&key, None)?;
            let asked = Instant::now();
            match self.api.briefly().init(&request, &key).await {
                Ok(answer) if replay && is_over(answer.upload.status) => (),
                Err(error) if replay && error.is("idempotency_key_reused") => (),
                Ok(InitAnswer { upload, upload_token, presigned }) => {
                    self.remember(&key, Some((upload.upload_id.clone(), upload_token)))?;
                    return Ok(Opened { upload, resumed: false, presigned, checksum, asked });
                }
                Err(error) => {
                    if error.api().is_some_and(|error| error.status < 500) {
                        self.forget();
                    }
                    return Err(error.into());
                }
            }
        }
    }

    fn init_request(&self, checksum: Option<String>) -> InitRequest {
        let only_chunk = checksum.map(|c| ChunkWant { chunk_index: 0, checksum: Some(c) });
        InitRequest {
            filename: self.identity.filename.clone(),
            file_size: self.fingerprint.file_size,
            chunk_size: self.file.chunk_size,
            content_type: self.file.content_type.clone(),
            checksum_algorithm: self.file.algorithm.name(),
            metadata: self.file.metadata.clone(),
            chunks: only_chunk.into_iter().collect(),
        }
    }

    async fn checksum_of_only_chunk(&self) -> Result<Option<String>, Error> {
        let size = self.fingerprint.file_size;
        let fits = self.file.chunk_size.is_none_or(|chunk_size| size <= chunk_size);
        if size == 0 || size > ONE_CHUNK || !fits {
            return Ok(None);
        }
        let (path, algorithm, stop) = (self.path.clone(), self.file.algorithm, self.stop.clone());
        let read =
            move || checksum::of_ranges(&path, algorithm, std::slice::from_ref(&(0..size)), &stop);
        let checksums = tokio::task::spawn_blocking(read)
            .await
            .map_err(Error::Internal)?
            .map_err(|error| Error::reading(&self.path, error))?;
        Ok(checksums.into_iter().next())
    }
}

fn is_over(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Aborted | Status::Expired)
}
