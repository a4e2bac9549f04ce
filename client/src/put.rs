//! Sends one chunk to S3 by its signed URL, patiently, as long as that URL is good.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Response};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use url::Url;

use crate::error::Error;
use crate::file;
use crate::http;
use crate::problem::seconds;
use crate::progress::{Attempt, ChunkState, Event};
use crate::send::{Item, Job};
use crate::storage::{StorageError, Verdict, judge, read_error};
use crate::wire::Presigned;

/// An error document of S3 is under 1 KiB.
const ANSWER_LIMIT: usize = 8 * 1024;
/// How long the rest of an answer may take once it began.
const ANSWER_REST: Duration = Duration::from_secs(10);
/// How long S3 may think once it has the last byte. More than for a stall, since up to some
/// megabytes of "sent" bytes still wait in this machine's socket buffers on a slow line.
const LAST_WORD: Duration = Duration::from_secs(300);

/// A chunk with a URL to send it to.
pub(crate) struct Ready {
    pub item: Item,
    presigned: Presigned,
    url: Url,
    headers: HeaderMap,
    /// Beginning to send later than this is likely to be refused.
    pub good_until: Instant,
}

/// How sending a chunk ended.
pub(crate) enum Sent {
    Taken,
    /// The URL for this host ran out first.
    Expired {
        host: String,
    },
    /// Another URL may help.
    Refused(StorageError),
    /// Nothing helps.
    Failed(Error),
}

enum Answer {
    Status { status: u16, code: String, message: String, retry_after: Option<Duration> },
    Lost(String),
    Fault(Error),
}

impl Ready {
    /// # Errors
    /// [`Error::Unexpected`] when what the server signed is no request for exactly this chunk.
    pub fn new(item: Item, presigned: Presigned, asked: Instant, size: u64) -> Result<Self, Error> {
        let wrong = |what: &str| {
            Error::Unexpected(format!("for chunk {} it signed {what}", presigned.chunk_index))
        };
        if presigned.method != "PUT" || presigned.size_bytes != size {
            let method = &presigned.method;
            return Err(wrong(&format!("a {method} of {} bytes", presigned.size_bytes)));
        }
        let url =
            Url::parse(&presigned.url).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| wrong("no http address"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &presigned.headers {
            let header = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(value)) = header else { return Err(wrong("a broken header")) };
            headers.insert(name, value);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        let life = Duration::from_secs(presigned.expires_in);
        // A request takes its time to reach S3.
        let good_until = asked + life - (life / 4).min(Duration::from_secs(5));
        Ok(Self { item, presigned, url, headers, good_until })
    }

    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// Sends the chunk, trying again while that can help and the URL is good.
pub(crate) async fn put(job: Arc<Job>, ready: Ready) -> (Item, Sent) {
    let mut failures = 0;
    let sent = loop {
        job.chunk(ready.item.chunk_index, ChunkState::Sending);
        let (problem, asked) = match once(&job, &ready).await {
            Answer::Fault(error) => break Sent::Failed(error),
            Answer::Lost(problem) => (problem, None),
            Answer::Status { status, code, message, retry_after } => {
                match judge(status, &code, &message) {
                    Verdict::Taken => break Sent::Taken,
                    Verdict::Expired => break Sent::Expired { host: ready.host() },
                    Verdict::Again => (format!("{status} {code} {message}"), retry_after),
                    Verdict::Refused => {
                        break Sent::Refused(StorageError::Refused {
                            chunk_index: ready.item.chunk_index,
                            host: ready.host(),
                            status,
                            code,
                            message,
                        });
                    }
                }
            }
        };
        failures += 1;
        let problem = problem.trim().to_owned();
        let Some(wait) = job.retry().wait(failures + ready.item.failures, asked) else {
            break Sent::Failed(unreachable(&ready, failures, problem));
        };
        job.chunk(ready.item.chunk_index, ChunkState::Again);
        let what = format!("send chunk {} to {}", ready.item.chunk_index, ready.host());
        tracing::debug!(chunk = ready.item.chunk_index, problem, failures, "trying again");
        job.meter.listener.tell(Event::Retrying { what, problem, wait });
        sleep(wait).await;
        if Instant::now() >= ready.good_until {
            break Sent::Expired { host: ready.host() };
        }
    };
    let mut item = ready.item;
    item.failures += failures;
    (item, sent)
}

fn unreachable(ready: &Ready, failures: u32, problem: String) -> Error {
    let tries = failures + ready.item.failures;
    let (chunk_index, host) = (ready.item.chunk_index, ready.host());
    StorageError::Unreachable { chunk_index, host, tries, problem }.into()
}

async fn once(job: &Job, ready: &Ready) -> Answer {
    let range = job.geometry.range(ready.item.chunk_index);
    let attempt = Attempt::new(job.meter.clone());
    let body = Body::wrap_stream(file::blocks(job.path.clone(), range, attempt.clone()));
    let request =
        job.client().put(ready.url.clone()).headers(ready.headers.clone()).body(body).send();
    let size = ready.presigned.size_bytes;
    let response = unless_stalled(request, &attempt, size, job.stall_timeout()).await;
    if let Some(fault) = attempt.fault() {
        return Answer::Fault(Error::reading(&job.path, fault));
    }
    match response {
        None => Answer::Lost("no byte moved for too long".to_owned()),
        Some(Err(error)) => Answer::Lost(http::causes(&error)),
        Some(Ok(response)) => {
            let answer = read(response).await;
            if matches!(answer, Answer::Status { status: 200..=299, .. }) {
                attempt.succeed();
            }
            answer
        }
    }
}

async fn read(mut response: Response) -> Answer {
    let status = response.status().as_u16();
    let header = response.headers().get(RETRY_AFTER);
    let retry_after = header.and_then(|value| value.to_str().ok()).and_then(seconds);
    // The status has said it all; of a body that does not arrive nobody needs to hear.
    let rest = tokio::time::timeout(ANSWER_REST, http::body(&mut response, ANSWER_LIMIT)).await;
    let body = rest.ok().and_then(Result::ok).map(|(body, _)| body).unwrap_or_default();
    let (code, message) = read_error(&body);
    Answer::Status { status, code, message, retry_after }
}

/// Runs `work` unless the attempt's bytes stop moving. There is no limit to the whole: a chunk of
/// 5 GiB on a slow line takes hours.
async fn unless_stalled<T>(
    work: impl Future<Output = T>,
    attempt: &Attempt,
    size: u64,
    stall: Duration,
) -> Option<T> {
    let mut work = pin!(work);
    let mut tick = interval((stall / 8).max(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            _ = tick.tick() => {
                let sent = attempt.sent();
                if sent != seen {
                    (seen, since) = (sent, Instant::now());
                }
                let limit = if sent >= size { LAST_WORD.max(stall) } else { stall };
                if since.elapsed() >= limit {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Listener, Meter};

    fn presigned(method: &str, size_bytes: u64, url: &str) -> Presigned {
        let (chunk_index, method, url) = (3, method.to_owned(), url.to_owned());
        let headers = [("x-amz-checksum-crc64nvme".to_owned(), "AAAA".to_owned())].into();
        Presigned { chunk_index, method, url, headers, size_bytes, expires_in: 900 }
    }

    #[tokio::test]
    async fn only_a_request_for_exactly_this_chunk_is_accepted() {
        let now = Instant::now();
        let make = |p| Ready::new(Item::new(3), p, now, 10);
        let ready = make(presigned("PUT", 10, "http://s3:9000/k?X-Amz-Signature=s")).unwrap();
        assert_eq!(ready.host(), "s3:9000");
        assert_eq!(ready.headers[CONTENT_LENGTH], "10");
        assert_eq!(ready.good_until, now + Duration::from_secs(895));
        assert!(make(presigned("POST", 10, "http://s3/k")).is_err());
        assert!(make(presigned("PUT", 11, "http://s3/k")).is_err());
        assert!(make(presigned("PUT", 10, "file:///etc/passwd")).is_err());
    }

    #[tokio::test]
    async fn work_that_moves_no_byte_is_given_up_and_work_that_moves_is_not() {
        let attempt = Attempt::new(Arc::new(Meter::new(Listener::none())));
        let nothing = std::future::pending::<()>();
        assert!(unless_stalled(nothing, &attempt, 100, Duration::from_millis(50)).await.is_none());
        let moving = async {
            for _ in 0..30 {
                sleep(Duration::from_millis(50)).await;
                attempt.add(1);
            }
        };
        assert!(unless_stalled(moving, &attempt, 100, Duration::from_secs(1)).await.is_some());
    }
}
