//! Requests signed by hand, for what an SDK would not send: a life of eight days, a header that was not
//! signed, a body that is another one.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;

use super::server::{Outcome, Server};

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// What is signed, and how.
pub struct Request<'a> {
    pub method: Method,
    pub key: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    /// Signed headers, beside Host.
    pub headers: &'a [(&'a str, &'a str)],
    pub signed_at: SystemTime,
    pub expires_in: Duration,
    pub secret_key: Option<&'a str>,
    pub region: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Signed now, for ten minutes.
    pub fn new(method: Method, key: &'a str) -> Request<'a> {
        Request {
            method,
            key,
            query: &[],
            headers: &[],
            signed_at: SystemTime::now(),
            expires_in: Duration::from_secs(600),
            secret_key: None,
            region: None,
        }
    }

    /// The presigned URL. <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    pub fn url(&self, s3: &Server) -> String {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(self.expires_in);
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let secret = self.secret_key.unwrap_or(&s3.credentials.secret_key);
        let keys = Keys::new(&s3.credentials.access_key, secret, None, None, "test");
        let identity = keys.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region.unwrap_or(&s3.region))
            .name("s3")
            .time(self.signed_at)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let key = utf8_percent_encode(self.key, PATH);
        let mut url = format!("http://{}/{}/{key}", s3.address, s3.bucket);
        append(&mut url, self.query.iter().copied());
        let signed = self.headers.iter().copied();
        let request =
            SignableRequest::new(self.method.as_str(), &url, signed, SignableBody::UnsignedPayload);
        let (signature, _) = sign(request.unwrap(), &params).unwrap().into_parts();
        append(&mut url, signature.params().iter().map(|(name, value)| (*name, value.as_ref())));
        url
    }

    /// The request ready to be sent, with the signed headers but for Content-Length, which the body sets.
    pub fn build(&self, s3: &Server) -> reqwest::RequestBuilder {
        let request = s3.http.request(self.method.clone(), self.url(s3));
        self.headers
            .iter()
            .filter(|(name, _)| *name != "content-length")
            .fold(request, |request, (name, value)| request.header(*name, *value))
    }
}

fn append<'a>(url: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in pairs {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, QUERY));
    }
}

/// Sends it; the code is read out of the XML.
pub async fn answer(request: reqwest::RequestBuilder) -> Outcome {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, code(&answer.text().await.unwrap()))
}

pub fn code(xml: &str) -> String {
    let inside = xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    inside.map_or(String::new(), |(code, _)| code.to_owned())
}
