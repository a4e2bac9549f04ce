//! The calls that are made once for each chunk, sent without the SDK's pipeline, which takes several times what
//! signing, sending and reading the answer do: the requests are the SDK's, signed by the aws-sigv4 crate and sent
//! over the SDK's own connections. Only what goes well is answered here, and that an object is not there. All else
//! is asked again of the SDK, which knows when to try again, whose clock is wrong, and what an error says.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_sdk_s3::config::RuntimeComponents;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::SdkBody;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector as _, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use percent_encoding::utf8_percent_encode;
use rand::Rng as _;

use super::Storage;
use super::measure::Began;
use super::presign::{PATH, append_query, base};
use crate::config::StorageSettings;

/// The SDK alone is asked for so long after a call did not go well.
const REST: Duration = Duration::from_secs(5);
/// The SDK's pause before its second try is up to this long: other servers' calls fail at the same time.
const PAUSE: Duration = Duration::from_millis(100);

/// Of buckets and access points of S3 Express, of access points and of Outposts.
const SPECIAL: [&str; 4] = ["--x-s3", "--xa-s3", "-s3alias", "--op-s3"];

/// The SDK's way to the bucket, and whether it may be gone without the SDK.
#[derive(Debug)]
pub(super) struct Direct {
    began: Instant,
    way: OnceLock<Way>,
    /// Milliseconds after `began`.
    rests_until: AtomicU64,
}

#[derive(Debug)]
struct Way {
    connector: SharedHttpConnector,
    /// `scheme://host[/bucket]`.
    base: String,
}

/// A call on an object. All headers are signed.
pub(super) struct Call<'a> {
    pub operation: &'static str,
    pub method: &'static str,
    pub key: String,
    pub query: &'a [(&'static str, &'a str)],
    pub headers: &'a [(&'static str, &'a str)],
    pub timeout: Duration,
}

/// It is the SDK's turn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    All,
    /// One try of so long is gone.
    OneLess(Duration),
}

impl Left {
    /// What is left to the SDK; `all` is what it takes where nothing was tried.
    pub fn of(self, all: aws_sdk_s3::config::Builder) -> aws_sdk_s3::config::Builder {
        let Left::OneLess(timeout) = self else { return all };
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(timeout);
        let retries = super::retries().with_max_attempts(super::TRIES - 1);
        all.timeout_config(timeouts.operation_timeout(timeout).build()).retry_config(retries)
    }
}

impl Direct {
    pub fn new() -> Self {
        Self { began: Instant::now(), way: OnceLock::new(), rests_until: AtomicU64::new(0) }
    }

    /// Learns the way from a call that the SDK is about to send to `uri`, if it is the one that we know.
    pub fn learn(&self, settings: &StorageSettings, uri: &str, components: &RuntimeComponents) {
        if self.way.get().is_some() {
            return;
        }
        let base = base(settings, settings.endpoint.as_ref());
        let rest = uri.strip_prefix(&base);
        let same = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        let bucket = settings.bucket.as_str();
        // These are signed for in other ways.
        let special = bucket.starts_with("arn:") || SPECIAL.iter().any(|end| bucket.ends_with(end));
        let Some(client) = components.http_client().filter(|_| same && !special) else { return };
        let connect = HttpConnectorSettings::builder().connect_timeout(settings.connect_timeout());
        let connector = client.http_connector(&connect.build(), components);
        // Somebody else may have learnt the same.
        let _ = self.way.set(Way { connector, base });
    }

    fn way(&self) -> Option<&Way> {
        let now = self.began.elapsed().as_millis() as u64;
        self.way.get().filter(|_| now >= self.rests_until.load(Ordering::Relaxed))
    }

    fn rest(&self) {
        let until = self.began.elapsed() + REST;
        self.rests_until.store(until.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Storage {
    /// What `read` makes of the answer, where there is a good one; and of a 404 or 412, which it may leave to the
    /// SDK too.
    pub(super) async fn direct<T>(
        &self,
        call: Call<'_>,
        read: impl AsyncFnOnce(HttpResponse) -> Option<T>,
    ) -> Result<T, Left> {
        let Some(way) = self.direct.way() else { return Err(Left::All) };
        let keys = self.credentials.get(SystemTime::now()).await.map_err(|_| Left::All)?;
        let request = self.request(&way.base, &call, keys).ok_or(Left::All)?;
        let began = Began::new(call.operation);
        let mut status = None;
        let answered = tokio::time::timeout(call.timeout, async {
            let response = way.connector.call(request).await.ok()?;
            status = Some(response.status().as_u16());
            match response.status().as_u16() {
                200..300 | 404 | 412 => read(response).await,
                _ => None,
            }
        });
        let answer = answered.await.ok().flatten();
        let good = matches!(status, Some(200..300)) && answer.is_some();
        began.end(&self.metrics, good, status);
        drop(began);
        if answer.is_none() && !matches!(status, Some(404 | 412)) {
            self.direct.rest();
            let pause = rand::rng().random_range(Duration::ZERO..PAUSE);
            tokio::time::sleep(pause).await;
        }
        answer.ok_or(Left::OneLess(call.timeout))
    }

    fn request(&self, base: &str, call: &Call<'_>, keys: Keys) -> Option<HttpRequest> {
        let mut uri = format!("{base}/{}", utf8_percent_encode(&call.key, PATH));
        append_query(&mut uri, call.query.iter().copied());
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = keys.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.settings.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .ok()?
            .into();
        let headers = call.headers.iter().copied();
        let signable =
            SignableRequest::new(call.method, &uri, headers.clone(), SignableBody::Bytes(b""));
        let (signed, _) = sign(signable.ok()?, &params).ok()?.into_parts();
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_method(call.method).ok()?;
        request.set_uri(uri).ok()?;
        for (name, value) in headers.chain(signed.headers()).chain([("user-agent", AGENT)]) {
            request.headers_mut().try_insert(name.to_owned(), value.to_owned()).ok()?;
        }
        Some(request)
    }
}

/// S3's own logs name it.
const AGENT: &str = concat!("upflow/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests;
