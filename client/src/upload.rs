//! Takes a file from disk to `completed`: opens its upload, sends what is missing, has the server put
//! it together, and waits for that. What to do next follows from the upload's status alone, so a
//! resumed upload goes the same way as a new one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::Api;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::http::{self, Http};
use crate::open::{Opened, Run};
use crate::options::{FileUpload, Options};
use crate::prepare::pair;
use crate::progress::{Event, Listener, Meter, Phase};
use crate::put::Ready;
use crate::send::{Item, Job, Sending};
use crate::wire::{Status, Upload};

/// Times that chunks are sent and completion is asked for. More than one is needed only when what was
/// sent vanishes or turns out wrong.
const ROUNDS: u32 = 5;
/// Calls of complete while the server is still confirming: a call confirms up to 1,000 chunks.
const COMPLETE_CALLS: u32 = 60;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the server may keep one request waiting.
const LONG_POLL: Duration = Duration::from_secs(30);
/// Least time between two polls, for what answers them at once.
const POLL_PAUSE: Duration = Duration::from_secs(1);

/// Uploads files to one server. Cheap to keep; connections are shared between its uploads.
#[derive(Debug, Clone)]
pub struct Uploader {
    http: Http,
    api: Api,
}

/// A file that is in the bucket.
#[derive(Debug, Clone)]
pub struct Finished {
    pub upload: Upload,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
    /// Bytes that this run had to send; the rest was there.
    pub sent_bytes: u64,
    pub took: Duration,
}

impl Uploader {
    /// # Errors
    /// [`Error::Settings`] when the options are out of range or TLS cannot be set up.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let client = http::client(&options)?;
        let http = Http { client, options: Arc::new(options) };
        let api = Api::with(http.clone())?;
        Ok(Self { http, api })
    }

    /// The calls of the server, for what this type does not do.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Uploads a file and returns once it is completed. Dropping the future stops everything; with a
    /// state directory, calling this again then resumes.
    ///
    /// # Errors
    /// See [`Error`]: each says whether sending the file again helps.
    pub async fn upload(&self, file: &FileUpload, listener: Listener) -> Result<Finished, Error> {
        let started = Instant::now();
        listener.tell(Event::Phase(Phase::Preparing));
        let options = &self.http.options;
        let server = options.server.to_string();
        let api = self.api.clone();
        let run =
            Run::begin(api, server, options.state_dir.clone(), file.clone(), listener).await?;
        let uploaded = self.go(&run, started).await;
        match &uploaded {
            Ok(_) => run.forget(),
            Err(error) if error.says_ended() => run.forget(),
            Err(_) => (),
        }
        uploaded
    }

    async fn go(&self, run: &Run, started: Instant) -> Result<Finished, Error> {
        let opened = run.open().await?;
        let geometry = Geometry::of(&opened.upload, run.fingerprint.file_size)?;
        let meter = Arc::new(Meter::new(run.listener.clone()));
        let (resumed, upload) = (opened.resumed, Box::new(opened.upload.clone()));
        let missing = to_send(geometry, &opened.upload);
        meter.set(geometry.file_size - missing);
        run.listener.tell(Event::Opened { upload, resumed });
        let job = Arc::new(Job {
            http: self.http.clone(),
            api: run.api.clone(),
            upload_id: opened.upload.upload_id.clone(),
            path: run.path.clone(),
            geometry,
            algorithm: run.file.algorithm,
            meter,
            stop: run.stop.clone(),
        });
        let ready = first_urls(&job, &opened)?;
        let upload = self.drive(run, &job, opened.upload, ready).await?;
        run.listener.tell(Event::Phase(Phase::Completed));
        Ok(Finished { upload, resumed, sent_bytes: missing, took: started.elapsed() })
    }

    async fn drive(
        &self,
        run: &Run,
        job: &Arc<Job>,
        mut upload: Upload,
        mut ready: Vec<Ready>,
    ) -> Result<Upload, Error> {
        let mut rounds = 0;
        loop {
            upload = match upload.status {
                Status::Completed => return Ok(upload),
                Status::PendingAssembly => self.wait(job, upload).await?,
                // One that failed in an earlier run gets another chance, one of this run does not.
                Status::Failed if rounds > 0 => return Err(failed(upload)),
                Status::Initialized | Status::Uploading | Status::Failed => {
                    let missing = job.geometry.missing(&upload.uploaded_chunks);
                    if rounds == ROUNDS {
                        return Err(Error::StillMissing { rounds, missing: missing.len() });
                    }
                    rounds += 1;
                    job.meter.set(job.geometry.file_size - to_send(job.geometry, &upload));
                    send(run, job, missing, std::mem::take(&mut ready)).await?;
                    complete(job).await?
                }
                status @ (Status::Aborted | Status::Expired) => {
                    return Err(Error::Ended { status });
                }
                Status::Unknown => {
                    return Err(Error::Unexpected(
                        "it gives a status this client does not know".to_owned(),
                    ));
                }
            };
        }
    }

    async fn wait(&self, job: &Job, mut upload: Upload) -> Result<Upload, Error> {
        let (started, limit) = (Instant::now(), self.http.options.assembly_timeout);
        let listener = &job.meter.listener;
        listener.tell(Event::Phase(Phase::Assembling));
        loop {
            let (chunks, total_chunks) = (upload.assembled_chunks, upload.total_chunks);
            listener.tell(Event::Assembled { chunks, total_chunks });
            if upload.status != Status::PendingAssembly {
                return Ok(upload);
            }
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(Error::TooSlow { waited: limit });
            }
            let asked = Instant::now();
            upload = job.api.wait(&job.upload_id, left.min(LONG_POLL)).await?;
            if upload.status == Status::PendingAssembly {
                sleep(POLL_PAUSE.saturating_sub(asked.elapsed())).await;
            }
        }
    }
}

/// Sends chunks, then looks whether the file is still the one they were read from: what is completed
/// must never be half of one version and half of another.
async fn send(
    run: &Run,
    job: &Arc<Job>,
    mut missing: Vec<u32>,
    ready: Vec<Ready>,
) -> Result<(), Error> {
    missing.retain(|index| !ready.iter().any(|r| r.item.chunk_index == *index));
    job.meter.listener.tell(Event::Phase(Phase::Sending));
    let sent = Sending::new(job.clone(), missing, ready).run().await;
    let changed = matches!(sent, Err(Error::FileChanged { .. }))
        || !run.fingerprint.still_holds(&run.path).await;
    if !changed {
        return sent;
    }
    if let Err(error) = run.abort(&job.upload_id).await {
        // The next run meets a changed file, and aborts it then.
        tracing::debug!(%error, "could not abort the upload");
    }
    Err(Error::FileChanged { path: run.file.path.clone() })
}

/// Asks for the final object; gives the upload as it is then.
async fn complete(job: &Job) -> Result<Upload, Error> {
    let mut calls = 1;
    loop {
        let error = match job.api.complete(&job.upload_id).await {
            Ok(upload) => return Ok(upload),
            Err(error) => error,
        };
        if error.is("upload_incomplete") {
            return Ok(job.api.get(&job.upload_id).await?);
        }
        if !error.is("confirm_in_progress") || calls == COMPLETE_CALLS {
            return Err(error.into());
        }
        calls += 1;
        let asked = error.api().and_then(|error| error.retry_after);
        sleep(asked.unwrap_or(POLL_PAUSE).min(LONGEST_PAUSE)).await;
    }
}

/// The URLs that came with the answer to init, if they are for the chunk that was read for them.
fn first_urls(job: &Job, opened: &Opened) -> Result<Vec<Ready>, Error> {
    let one = job.geometry.total_chunks == 1 && opened.presigned.len() == 1;
    let Some(checksum) = opened.checksum.as_ref().filter(|_| one) else { return Ok(Vec::new()) };
    let mut item = Item::new(0);
    item.checksum = Some(checksum.clone());
    pair(job, vec![item], opened.presigned.clone(), opened.asked)
}

/// Bytes of the file that are not counted as uploaded.
fn to_send(geometry: Geometry, upload: &Upload) -> u64 {
    match upload.status {
        Status::Completed | Status::PendingAssembly => 0,
        _ => geometry.missing(&upload.uploaded_chunks).into_iter().map(|i| geometry.len(i)).sum(),
    }
}

fn failed(upload: Upload) -> Error {
    let failure = upload.failure.unwrap_or(crate::wire::Failure {
        code: "failed".to_owned(),
        detail: "the server gives no reason".to_owned(),
        chunk_indexes: None,
    });
    Error::Failed { code: failure.code, detail: failure.detail }
}
