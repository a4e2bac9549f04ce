//! The calls of the HTTP contract, typed. Each has a time limit, reads a bounded answer, and is tried
//! again where that can help: all of them are safe to repeat (init by its idempotency key).

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::Error;
use crate::http::{self, Http};
use crate::options::Options;
use crate::problem::{ApiError, CallError};
use crate::progress::{Event, Listener};
use crate::retry::{Retry, is_transient};
use crate::wire::{
    ChunkWant, Confirmed, InitAnswer, InitRequest, PresignAnswer, Presigned, Upload,
};

/// The most chunks that one presign or confirm names. A server takes at least so many, and holds them all in its
/// memory.
pub(crate) const CHUNKS_PER_CALL: usize = 400;

/// So many signed URLs with session tokens are about 1 MiB.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;
const SHORT: Duration = Duration::from_secs(60);
/// For calls in which the server asks S3 about up to a thousand chunks.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// The API of one server.
#[derive(Debug, Clone)]
pub struct Api {
    http: Http,
    bearer: Option<HeaderValue>,
    retry: Retry,
    listener: Listener,
}

pub(crate) struct Call<'a> {
    /// As in "cannot {what}".
    pub what: &'static str,
    pub method: Method,
    pub path: &'a [&'a str],
    pub limit: Duration,
}

impl Api {
    /// # Errors
    /// [`Error::Settings`] when the options are out of range or TLS cannot be set up.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let client = http::client(&options)?;
        Self::with(Http { client, options: options.into() })
    }

    pub(crate) fn with(http: Http) -> Result<Self, Error> {
        let bearer = http.options.api_key.as_deref().map(bearer).transpose()?;
        let retry = http.options.retry;
        Ok(Self { http, bearer, retry, listener: Listener::none() })
    }

    /// The same API, opened by the token of an upload where there is no API key.
    pub(crate) fn or_token(mut self, token: Option<&str>) -> Result<Self, Error> {
        if self.bearer.is_none() {
            self.bearer = token.map(bearer).transpose()?;
        }
        Ok(self)
    }

    /// The same API, which tells `listener` of calls that are tried again.
    pub fn telling(&self, listener: &Listener) -> Self {
        Self { listener: listener.clone(), ..self.clone() }
    }

    /// The same API, which gives up within seconds.
    pub fn briefly(&self) -> Self {
        Self { retry: self.retry.brief(), ..self.clone() }
    }

    /// Creates an upload. The same key and request give the same upload, with fresh URLs.
    pub(crate) async fn init(
        &self,
        request: &InitRequest,
        idempotency_key: &str,
    ) -> Result<InitAnswer, CallError> {
        let call = Call {
            what: "create the upload",
            method: Method::POST,
            path: &["uploads", "init"],
            limit: SHORT,
        };
        self.run(call, |r| r.header("Idempotency-Key", idempotency_key).json(request)).await
    }

    pub async fn get(&self, upload_id: &str) -> Result<Upload, CallError> {
        let path = ["uploads", upload_id];
        let call =
            Call { what: "look at the upload", method: Method::GET, path: &path, limit: SHORT };
        self.run(call, |r| r).await
    }

    /// Answers once the upload is completed or ended, and after `at_most` in any case.
    pub async fn wait(&self, upload_id: &str, at_most: Duration) -> Result<Upload, CallError> {
        let path = ["uploads", upload_id];
        let seconds = at_most.as_secs().max(1).to_string();
        let call = Call {
            what: "wait for the upload",
            method: Method::GET,
            path: &path,
            limit: at_most + SHORT,
        };
        let query = [("wait_for", "completed"), ("timeout_seconds", seconds.as_str())];
        self.run(call, |r| r.query(&query)).await
    }

    /// URLs for up to [`CHUNKS_PER_CALL`] chunks.
    pub async fn presign(
        &self,
        upload_id: &str,
        chunks: &[ChunkWant],
    ) -> Result<Vec<Presigned>, CallError> {
        #[derive(Serialize)]
        struct Body<'a> {
            chunks: &'a [ChunkWant],
        }
        let path = ["uploads", upload_id, "chunks", "presign"];
        let call =
            Call { what: "get URLs for chunks", method: Method::POST, path: &path, limit: SHORT };
        let answer: PresignAnswer = self.run(call, |r| r.json(&Body { chunks })).await?;
        Ok(answer.chunks)
    }

    /// Has the server look for up to [`CHUNKS_PER_CALL`] chunks in S3 and count them.
    pub async fn confirm_chunks(
        &self,
        upload_id: &str,
        chunks: &[u32],
    ) -> Result<Confirmed, CallError> {
        #[derive(Serialize)]
        struct Body<'a> {
            chunks: &'a [u32],
        }
        let path = ["uploads", upload_id, "chunks", "confirm"];
        let call = Call { what: "confirm chunks", method: Method::POST, path: &path, limit: LONG };
        self.run(call, |r| r.json(&Body { chunks })).await
    }

    /// Has the server compare what it counts with what is in S3.
    pub async fn reconcile(&self, upload_id: &str) -> Result<Upload, CallError> {
        self.change(
            "find out what is there already",
            Method::POST,
            &["uploads", upload_id, "reconcile"],
        )
        .await
    }

    /// Asks for the final object. Repeating it answers with the current state.
    pub async fn complete(&self, upload_id: &str) -> Result<Upload, CallError> {
        self.change("complete the upload", Method::POST, &["uploads", upload_id, "complete"]).await
    }

    pub async fn abort(&self, upload_id: &str) -> Result<Upload, CallError> {
        self.change("abort the upload", Method::DELETE, &["uploads", upload_id]).await
    }

    async fn change(
        &self,
        what: &'static str,
        method: Method,
        path: &[&str],
    ) -> Result<Upload, CallError> {
        self.run(Call { what, method, path, limit: LONG }, |r| r).await
    }

    pub(crate) async fn run<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, CallError> {
        let mut failures = 0;
        loop {
            let error = match self.once(&call, &with).await {
                Ok(body) => return self.read(&call, &body),
                Err(error) => error,
            };
            failures += 1;
            let wait = may_pass(&error).then(|| self.retry.wait(failures, retry_after(&error)));
            let Some(wait) = wait.flatten() else { return Err(error) };
            let problem = match &error {
                CallError::Transport { source, .. } => http::causes(source),
                other => other.to_string(),
            };
            tracing::debug!(call = call.what, problem, failures, "trying again");
            self.listener.tell(Event::Retrying { what: call.what.to_owned(), problem, wait });
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(
        &self,
        call: &Call<'_>,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Vec<u8>, CallError> {
        let lost = |source: reqwest::Error| CallError::Transport {
            what: call.what,
            server: self.server(),
            source: source.without_url(),
        };
        let request = self.http.client.request(call.method.clone(), self.url(call.path));
        let mut request = with(request).timeout(call.limit);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        let mut response = request.send().await.map_err(lost)?;
        let (body, whole) = http::body(&mut response, ANSWER_LIMIT).await.map_err(lost)?;
        if !response.status().is_success() {
            let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
            return Err(ApiError::read(response.status().as_u16(), asked, &body).into());
        }
        if !whole {
            let (what, server) = (call.what, self.server());
            return Err(CallError::TooLarge { what, server, limit: ANSWER_LIMIT });
        }
        Ok(body)
    }

    fn read<T: DeserializeOwned>(&self, call: &Call<'_>, body: &[u8]) -> Result<T, CallError> {
        serde_json::from_slice(body).map_err(|source| CallError::Unreadable {
            what: call.what,
            server: self.server(),
            source,
        })
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.http.options.server.clone();
        // Only an address that cannot have a path gives an error, and http always can.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    fn server(&self) -> String {
        self.http.options.server.as_str().trim_end_matches('/').to_owned()
    }
}

fn bearer(secret: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {secret}"))
        .map_err(|_| Error::Settings("the API key holds characters that no key has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::Api(error) => is_transient(error.status),
        CallError::Transport { source, .. } => !source.is_builder(),
        CallError::Unreadable { .. } | CallError::TooLarge { .. } => false,
    }
}

fn retry_after(error: &CallError) -> Option<Duration> {
    error.api().and_then(|error| error.retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_server_address_and_are_encoded() {
        for (server, expected) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/uploads/a%2Fb/complete"),
            ("http://h/files/", "http://h/files/uploads/a%2Fb/complete"),
        ] {
            let api = Api::new(Options::new(server).unwrap()).unwrap();
            assert_eq!(api.url(&["uploads", "a/b", "complete"]).as_str(), expected);
        }
    }

    #[test]
    fn debug_hides_the_key() {
        let mut options = Options::new("http://127.0.0.1:8000").unwrap();
        options.api_key = Some("hush".into());
        assert!(!format!("{:?}", Api::new(options).unwrap()).contains("hush"));
    }
}
