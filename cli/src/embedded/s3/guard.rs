//! What AWS refuses and the protocol layer would let through. Signatures are checked behind this.

use std::borrow::Cow;
use std::collections::HashMap;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{HeaderMap, Method, Request};
use percent_encoding::percent_decode_str;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// A presigned URL lives seven days at most.
const MAX_EXPIRES: u64 = 604_800;

/// How the names of headers begin that ask for what is not here.
const NOT_IMPLEMENTED: [&str; 6] = [
    "x-amz-copy-source-server-side-encryption",
    "x-amz-grant-",
    "x-amz-mfa",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
    "x-amz-website-redirect-location",
];

pub struct Guard {
    region: String,
}

/// What a signature covers.
struct Signature<'a> {
    /// access key / date / region / service / aws4_request
    scope: Cow<'a, str>,
    headers: Cow<'a, str>,
}

impl Guard {
    pub fn new(region: String) -> Guard {
        Guard { region }
    }

    pub fn check<B>(&self, request: &Request<B>) -> S3Result<()> {
        let headers = request.headers();
        // The protocol layer would read a form's file into memory before it asks who sends it.
        let form = text(headers, CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with("multipart/form-data"));
        let multipart = request.uri().query().is_some_and(|query| query.contains("upload"));
        if request.method() == Method::POST && form && !multipart {
            return Err(s3_error!(NotImplemented, "Uploads by HTML form are not implemented."));
        }
        check_features(headers)?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        if let Some(name) = query.names.keys().find(|name| is_checksum(name)) {
            return Err(s3_error!(
                NotImplemented,
                "Send {name} as a header: it has no effect in the URL."
            ));
        }
        let Some(signature) = self.signature(headers, &query)? else { return Ok(()) };
        self.check_region(&signature, query.get("X-Amz-Signature").is_some())?;
        check_headers(headers, &signature)
    }

    fn signature<'a>(
        &self,
        headers: &'a HeaderMap,
        query: &'a Query,
    ) -> S3Result<Option<Signature<'a>>> {
        let authorization = text(headers, AUTHORIZATION.as_str());
        let old = authorization.is_some_and(|value| value.starts_with("AWS "));
        if old || query.get("AWSAccessKeyId").is_some() || query.get("Signature").is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
            ));
        }
        if query.get("X-Amz-Signature").is_some() {
            if authorization.is_some() {
                return Err(s3_error!(InvalidArgument, "Only one auth mechanism allowed"));
            }
            let expires = query.get("X-Amz-Expires").and_then(|value| value.parse::<u64>().ok());
            if expires.is_none_or(|expires| expires > MAX_EXPIRES) {
                return Err(s3_error!(
                    AuthorizationQueryParametersError,
                    "X-Amz-Expires must be less than a week (in seconds); that is, the \
                     given X-Amz-Expires must be less than 604800 seconds"
                ));
            }
            return Ok(Some(Signature {
                scope: query.get("X-Amz-Credential").unwrap_or_default().into(),
                headers: query.get("X-Amz-SignedHeaders").unwrap_or_default().into(),
            }));
        }
        let Some(fields) = authorization.and_then(|value| value.strip_prefix("AWS4-HMAC-SHA256"))
        else {
            return Ok(None);
        };
        let field = |name: &str| {
            let field = fields
                .split(',')
                .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            Cow::from(field.unwrap_or_default())
        };
        Ok(Some(Signature { scope: field("Credential"), headers: field("SignedHeaders") }))
    }

    fn check_region(&self, signature: &Signature<'_>, in_query: bool) -> S3Result<()> {
        // From the end: an access key may have slashes.
        let region = signature.scope.rsplit('/').nth(2);
        if region.is_none_or(|region| region == self.region) {
            return Ok(());
        }
        let (code, what) = if in_query {
            (
                S3ErrorCode::AuthorizationQueryParametersError,
                "Error parsing the X-Amz-Credential parameter",
            )
        } else {
            (S3ErrorCode::AuthorizationHeaderMalformed, "The authorization header is malformed")
        };
        let region = region.unwrap_or_default();
        let message =
            format!("{what}; the region '{region}' is wrong; expecting '{}'", self.region);
        Err(S3Error::with_message(code, message))
    }
}

/// A header that means something to S3 and was not signed could have been added by anyone on the way.
fn check_headers(headers: &HeaderMap, signature: &Signature<'_>) -> S3Result<()> {
    let signed =
        |name: &str| signature.headers.split(';').any(|one| one.trim().eq_ignore_ascii_case(name));
    let unsigned: Vec<&str> = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("x-amz-") && !signed(name))
        .collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    Err(s3_error!(
        AccessDenied,
        "There were headers present in the request which were not signed: {}",
        unsigned.join(", ")
    ))
}

/// What would change how an object is kept or who may see it: to ignore it would be a lie.
fn check_features(headers: &HeaderMap) -> S3Result<()> {
    for name in headers.keys().map(|name| name.as_str()) {
        let value = text(headers, name).unwrap_or_default();
        match name {
            // What AWS does anyway.
            "x-amz-server-side-encryption" if value == "AES256" => {}
            "x-amz-acl" if matches!(value, "private" | "bucket-owner-full-control") => {}
            "x-amz-acl" => {
                return Err(s3_error!(
                    AccessControlListNotSupported,
                    "The bucket does not allow ACLs"
                ));
            }
            _ if NOT_IMPLEMENTED.iter().any(|start| name.starts_with(start)) => {
                return Err(s3_error!(
                    NotImplemented,
                    "{name} implies functionality that is not implemented."
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_checksum(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("x-amz-checksum-")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The query's parameters, decoded as the protocol layer decodes them, so that no spelling of a name
/// passes here and counts there.
struct Query {
    names: HashMap<String, String>,
}

impl Query {
    fn parse(query: &str) -> Query {
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        let names = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        Query { names }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.names.get(name).map(String::as_str)
    }
}
