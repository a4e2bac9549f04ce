//! Which web pages may use the store: a bucket's own rules where it has some, else any page if the server
//! is on a loopback address. In front of everything, so that a page can read why it was refused; what it
//! may do at all is decided by the signature.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
    VARY,
};
use hyper::{HeaderMap, Request, StatusCode};
use percent_encoding::percent_decode_str;
use s3s::dto::{CORSConfiguration, CORSRule};
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode, S3Result, s3_error};

use crate::embedded::store::Store;

/// What a page has to read of an answer for a checked, resumable transfer.
const EXPOSED: [&str; 11] = [
    "ETag",
    "Content-Range",
    "Accept-Ranges",
    "x-amz-request-id",
    "x-amz-version-id",
    "x-amz-checksum-type",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];
const VARIES: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
);

pub struct Cors {
    store: Store,
    any_origin: bool,
}

/// The page that asks, and what for.
pub struct Asker {
    bucket: String,
    origin: String,
    method: String,
    headers: Vec<String>,
}

impl Asker {
    /// None if no page asks.
    pub fn of<B>(request: &Request<B>) -> Option<Asker> {
        let header = |name: &HeaderName| request.headers().get(name)?.to_str().ok();
        let origin = header(&ORIGIN)?.to_owned();
        let method =
            header(&ACCESS_CONTROL_REQUEST_METHOD).unwrap_or(request.method().as_str()).to_owned();
        let headers = header(&ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default().split(',');
        let headers =
            headers.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let bucket =
            request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let bucket = percent_decode_str(bucket).decode_utf8_lossy().into_owned();
        Some(Asker { bucket, origin, method, headers })
    }
}

impl Cors {
    pub fn new(store: Store, any_origin: bool) -> Cors {
        Cors { store, any_origin }
    }

    /// The answer to a preflight; its headers are added with everyone's.
    pub fn preflight<B>(&self, request: &Request<B>) -> S3Result<HttpResponse> {
        let asker = Asker::of(request)
            .filter(|_| request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD));
        let Some(asker) = asker else {
            return Err(s3_error!(
                InvalidRequest,
                "Insufficient information. Origin request header needed."
            ));
        };
        if self.rule(&asker).is_none() {
            let code =
                S3ErrorCode::from_bytes(b"AccessForbidden").unwrap_or(S3ErrorCode::AccessDenied);
            let message = "CORSResponse: This CORS request is not allowed. This is usually \
                           because the evaluation of Origin, request method / Access-Control-Request-Method or \
                           Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.";
            let mut refused = S3Error::with_message(code, message);
            refused.set_status_code(StatusCode::FORBIDDEN);
            return Err(refused);
        }
        Ok(HttpResponse::new(Body::empty()))
    }

    /// Adds the headers that let the page read the answer, if a rule allows it.
    pub fn add_headers(&self, asker: Option<&Asker>, headers: &mut HeaderMap) {
        let Some(asker) = asker else { return };
        let Some(rule) = self.rule(asker) else { return };
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if rule.allowed_origins.iter().any(|origin| origin == "*") {
            set(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        } else {
            set(ACCESS_CONTROL_ALLOW_ORIGIN, &asker.origin);
            set(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        set(ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
        if !asker.headers.is_empty() {
            set(ACCESS_CONTROL_ALLOW_HEADERS, &asker.headers.join(", "));
        }
        if let Some(exposed) = rule.expose_headers.filter(|names| !names.is_empty()) {
            set(ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
        }
        if let Some(seconds) = rule.max_age_seconds {
            set(ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
        headers.append(VARY, VARIES);
    }

    /// The first rule that allows what is asked.
    fn rule(&self, asker: &Asker) -> Option<CORSRule> {
        match self.store.cors(&asker.bucket) {
            Some(CORSConfiguration { cors_rules }) => {
                cors_rules.into_iter().find(|rule| allows(rule, asker))
            }
            None if self.any_origin => Some(any_origin()),
            None => None,
        }
    }
}

fn any_origin() -> CORSRule {
    let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    CORSRule {
        allowed_origins: texts(&["*"]),
        allowed_methods: texts(&["GET", "HEAD", "PUT", "POST", "DELETE"]),
        allowed_headers: Some(texts(&["*"])),
        expose_headers: Some(texts(&EXPOSED)),
        max_age_seconds: Some(3600),
        id: None,
    }
}

fn allows(rule: &CORSRule, asker: &Asker) -> bool {
    let allowed_headers = rule.allowed_headers.as_deref().unwrap_or_default();
    rule.allowed_origins.iter().any(|pattern| matches(pattern, &asker.origin))
        && rule.allowed_methods.contains(&asker.method)
        && asker.headers.iter().all(|name| {
            let name = name.to_ascii_lowercase();
            allowed_headers.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &name))
        })
}

/// A pattern has one `*` at most, which stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}
