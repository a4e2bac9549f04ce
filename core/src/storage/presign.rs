//! Presigned URLs, signed by the aws-sigv4 crate directly: the SDK's whole pipeline costs five times as
//! much. <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
//!
//! What a client must send is signed as a header, and handed out beside the URL; only `content-length`
//! is signed and not handed out, since a browser sets it itself.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest,
    SignatureLocation, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use chrono::{DateTime, SubsecRound, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::error::{ErrorKind, StorageError};
use super::{Filename, ObjectKey, Storage};
use crate::checksum::Checksum;
use crate::config::StorageSettings;

/// What S3 leaves unencoded in a canonical URI: letters, digits and `-._~`, and the slash in paths.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
pub(super) const PATH: &AsciiSet = &QUERY.remove(b'/');

/// A request that a client may send to S3 as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Presigned {
    pub method: &'static str,
    pub url: String,
    /// Name and value of each header that the client must set.
    pub headers: Vec<(String, String)>,
    pub expires_at: DateTime<Utc>,
    pub expires_in: Duration,
}

impl std::fmt::Debug for Presigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presigned").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Signs any number of URLs with the credentials of one moment.
pub struct Signer<'a> {
    storage: &'a Storage,
    keys: Keys,
    now: DateTime<Utc>,
}

impl Storage {
    pub async fn signer(&self, now: DateTime<Utc>) -> Result<Signer<'_>, StorageError> {
        let keys = self.credentials.get(now.into()).await?;
        Ok(Signer { storage: self, keys, now })
    }

    /// Where clients reach the bucket: the origin of every presigned URL.
    pub fn public_origin(&self) -> String {
        origin(&self.public_url("")).to_owned()
    }

    /// `scheme://host[/bucket]/key` as clients reach it.
    fn public_url(&self, key: &str) -> String {
        let key = utf8_percent_encode(key, PATH);
        format!("{}/{key}", base(&self.settings, self.settings.public_endpoint.as_ref()))
    }
}

/// `scheme://host[/bucket]` of the bucket at this endpoint; `None` is AWS itself.
pub(super) fn base(settings: &StorageSettings, endpoint: Option<&Url>) -> String {
    let bucket = &settings.bucket;
    let base = match endpoint {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => {
            let china = if settings.region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://s3.{}.amazonaws.com{china}", settings.region)
        }
    };
    if settings.path_style {
        return format!("{base}/{bucket}");
    }
    let (scheme, host) = base.split_once("://").unwrap_or(("https", &base));
    format!("{scheme}://{bucket}.{host}")
}

/// `scheme://host[:port]` of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    &url[..end]
}

impl Signer<'_> {
    /// A PUT of exactly `len` bytes to a chunk, which ends after `life` or at `not_after`. Where the
    /// client has declared a checksum, S3 refuses other bytes.
    pub fn put_chunk(
        &self,
        key: &ObjectKey,
        len: i64,
        checksum: Option<Checksum>,
        life: Duration,
        not_after: DateTime<Utc>,
    ) -> Result<Presigned, StorageError> {
        let mut headers = Vec::new();
        if let Some(checksum) = checksum {
            headers.push((checksum.algorithm.header().to_owned(), checksum.to_string()));
        }
        if let Some((tag, value)) = &self.storage.settings.chunk_tag {
            headers.push(("x-amz-tagging".to_owned(), format!("{tag}={value}")));
        }
        let key = self.storage.key(key);
        self.sign("PUT", &key, &[], Some(len), headers, life, not_after)
    }

    /// A GET of the final object that a browser saves as `filename`.
    pub fn get_final(
        &self,
        key: &str,
        filename: &Filename,
        life: Duration,
    ) -> Result<Presigned, StorageError> {
        let disposition = content_disposition(filename);
        let query = [("response-content-disposition", disposition.as_str())];
        self.sign("GET", key, &query, None, Vec::new(), life, DateTime::<Utc>::MAX_UTC)
    }

    #[allow(clippy::too_many_arguments)] // the pieces of one request, used by the two calls above
    fn sign(
        &self,
        method: &'static str,
        key: &str,
        query: &[(&str, &str)],
        content_length: Option<i64>,
        headers: Vec<(String, String)>,
        life: Duration,
        not_after: DateTime<Utc>,
    ) -> Result<Presigned, StorageError> {
        let refused = |error: String| StorageError::new(ErrorKind::Refused, "presign", error);
        let expires_in = self.life(life, not_after);
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(expires_in);
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.session_token_mode = SessionTokenMode::Include;
        let identity = self.keys.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.storage.settings.region)
            .name("s3")
            .time(SystemTime::from(self.now))
            .settings(settings)
            .build()
            .map_err(|error| refused(error.to_string()))?
            .into();

        let mut url = self.storage.public_url(key);
        append_query(&mut url, query.iter().copied());
        let length = content_length.map(|length| length.to_string());
        let signed = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signed = signed.chain(length.as_deref().map(|length| ("content-length", length)));
        let request = SignableRequest::new(method, &url, signed, SignableBody::UnsignedPayload)
            .map_err(|error| refused(error.to_string()))?;
        let (instructions, _) =
            sign(request, &params).map_err(|error| refused(error.to_string()))?.into_parts();
        let signature = instructions.params().iter().map(|(name, value)| (*name, value.as_ref()));
        append_query(&mut url, signature);
        let expires_at = self.now.trunc_subsecs(0) + expires_in;
        Ok(Presigned { method, url, headers, expires_at, expires_in })
    }

    /// Never longer than the credentials live that sign, nor than `not_after`; whole seconds, as
    /// X-Amz-Expires has it, and at least one.
    fn life(&self, life: Duration, not_after: DateTime<Utc>) -> Duration {
        let until = |end: DateTime<Utc>| (end - self.now).to_std().unwrap_or_default();
        let credentials = self.keys.expiry().map_or(life, |expiry| until(expiry.into()));
        let life = life.min(credentials).min(until(not_after));
        Duration::from_secs(life.as_secs().max(1))
    }
}

pub(super) fn append_query<'a>(url: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in pairs {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, QUERY));
    }
}

/// RFC 6266: an ASCII fallback for old programs, and the whole name for all others (RFC 8187).
pub(super) fn content_disposition(filename: &Filename) -> String {
    let name = filename.as_str();
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ';
    let fallback: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    // RFC 8187 attr-char; encoding more than must be is allowed.
    let exact = utf8_percent_encode(name, QUERY);
    format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
pub(super) mod tests;
