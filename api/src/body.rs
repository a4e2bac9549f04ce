//! A JSON body whose faults are told with the place where they are. The framework's own payload says
//! "found null" of a missing field, without its name.

use poem::web::Data;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::payload::{ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;

use crate::problem::{Code, FieldError, Problem};
use crate::routes::Shared;

pub struct Body<T>(pub T);

impl<T: Type> Payload for Body<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn check_content_type(content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(Self::CONTENT_TYPE)
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + DeserializeOwned> ParsePayload for Body<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        use poem::error::ReadBodyError;
        let limits = <Data<&Shared> as FromRequest>::from_request(request, body).await?;
        let (most, time) = (limits.clients.body, limits.clients.body_timeout);
        let bytes = match tokio::time::timeout(time, body.take()?.into_bytes_limit(most)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(ReadBodyError::PayloadTooLarge)) => {
                let detail = format!("send at most {most} bytes; large lists in several calls");
                return Err(Problem::new(Code::BodyTooLarge, detail).into());
            }
            Ok(Err(error)) => {
                return Err(Problem::new(Code::MalformedJson, error.to_string()).into());
            }
            Err(_) => {
                let detail = format!("the body was not there after {time:?}: send it at once");
                return Err(Problem::new(Code::BodyTimeout, detail).into());
            }
        };
        parse(&bytes).map(Body).map_err(Into::into)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // First as JSON at all, so that a comma too many is not reported as a field that does not fit.
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    if let Some(fault) = array_for_object(&value) {
        return Err(Problem::invalid(vec![fault]));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
                Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        let detail = error.into_inner().to_string();
        if let Some(name) = missing_field(&detail) {
            pointer.push_str(&format!("/{name}"));
        }
        Problem::invalid(vec![FieldError { pointer, detail }])
    })
}

/// serde would read an array as the fields of an object, in order. The body is an object, and the
/// array of ours holds no arrays.
fn array_for_object(value: &serde_json::Value) -> Option<FieldError> {
    use serde_json::Value;
    let fault = |pointer: String| {
        let detail = "must be an object, not an array".to_owned();
        Some(FieldError { pointer, detail })
    };
    match value {
        Value::Array(_) => fault(String::new()),
        Value::Object(fields) => {
            let item = fields.get("chunks")?.as_array()?.iter().position(Value::is_array)?;
            fault(format!("/chunks/{item}"))
        }
        _ => None,
    }
}

/// For a field that may be left out: serde would read a null as that, and the spec has none.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// serde names a missing field in its text alone.
fn missing_field(detail: &str) -> Option<&str> {
    detail.strip_prefix("missing field `")?.split('`').next()
}

/// RFC 6901, section 3.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: Self::CONTENT_TYPE,
                schema: <Self as Payload>::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        match request.content_type() {
            Some(content_type) if Self::check_content_type(content_type) => {
                <Self as ParsePayload>::from_request(request, body).await
            }
            _ => {
                let detail = "send the header Content-Type: application/json";
                Err(Problem::new(Code::UnsupportedMediaType, detail).into())
            }
        }
    }
}
