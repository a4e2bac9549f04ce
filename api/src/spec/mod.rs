//! The OpenAPI document: what the framework says of the code, and then what it cannot say. Examples and
//! constraints come from `overlay.yaml`, security from the table of routes, errors from the table of codes,
//! limits from the table of limits. The same text is committed, served and shown by Swagger UI.

mod codes;
mod details;
mod operations;
mod schemas;

use serde_yaml::{Mapping, Value};

use crate::limits::{LIMITS, Limit};
use crate::problem::Code;

/// As YAML.
pub fn openapi_yaml() -> String {
    // Neither fails: what was read as YAML can be written as it, and all keys are text.
    serde_yaml::to_string(&document()).unwrap_or_default()
}

/// As JSON.
pub fn openapi_json() -> String {
    serde_json::to_string_pretty(&document()).unwrap_or_default()
}

/// As JSON, for Swagger UI: it fills its forms with the examples, and an `Idempotency-Key` that stands there
/// already would be that of every upload that is tried out.
pub fn swagger_ui_json() -> String {
    let mut spec = document();
    let parameters = &mut spec["paths"]["/uploads/init"]["post"]["parameters"];
    for parameter in parameters.as_sequence_mut().into_iter().flatten() {
        if let Some(parameter) = parameter.as_mapping_mut()
            && parameter["name"] == "Idempotency-Key"
        {
            parameter.remove("example");
        }
    }
    serde_json::to_string(&spec).unwrap_or_default()
}

fn document() -> Value {
    let read = |text: &str| serde_yaml::from_str::<Value>(text).unwrap_or_default();
    let mut spec = read(&crate::service().spec_yaml());
    let overlay = read(include_str!("overlay.yaml"));
    spec["openapi"] = "3.0.3".into();
    spec["info"] = info(&spec["info"]["version"]);
    describe_tags(&mut spec["tags"]);
    spec["servers"] = read("[{url: /, description: This server.}]");
    schemas::complete(&mut spec["components"]["schemas"], &overlay["schemas"]);
    let code = &mut spec["components"]["schemas"]["Problem"]["properties"]["code"];
    code["description"] = all_codes().into();
    operations::complete(&mut spec, &overlay);
    spec["components"]["securitySchemes"] = read(SECURITY);
    spec["components"]["examples"] = problems();
    spec
}

const SECURITY: &str = "
api_key:
  type: http
  scheme: bearer
  description: An API key, for servers. It may do everything with the uploads of its owner; one of operators, with those of all owners.
upload_token:
  type: http
  scheme: bearer
  bearerFormat: upt1.…
  description: The `upload_token` that init has answered, for clients. It opens that upload alone, until `upload_token_expires_at`.
";

const ABOUT: &str = "\
Resumable uploads of files of any size, straight from the client to S3 through presigned URLs.

**Errors** are `application/problem+json` (RFC 9457) with a stable `code`. Every answer has an `x-request-id` \
that the server's log knows. Sizes are bytes, times RFC 3339 in UTC. Fields and codes may be added.";

const FLOW: &str = "

**The flow**: `init_upload` plans the chunks, `presign_chunks` gives a URL for each, the client sends them to \
S3, `confirm_chunks` has them looked for, `complete_upload` has the file assembled, `get_upload` with \
`wait_for=completed` says when it is there. After an interruption `reconcile_upload` says what S3 has.

**Limits**, where a server sets no others:

| variable | default | what it is |
|---|---|---|
";

fn info(version: &Value) -> Value {
    let url = "https://opensource.org/license/mit";
    map([
        ("title", "UpFlow".into()),
        ("version", version.clone()),
        ("description", ABOUT.into()),
        ("contact", map([("name", "The people who run this server".into())])),
        ("license", map([("name", "MIT".into()), ("url", url.into())])),
    ])
}

/// The flow and the limits, beside the operations that they are about; and these first, since everything
/// begins with them.
fn describe_tags(tags: &mut Value) {
    let Value::Sequence(tags) = tags else { return };
    tags.sort_by_key(|tag| tag["name"] != "Uploads");
    for tag in tags.iter_mut().filter(|tag| tag["name"].as_str() == Some("Uploads")) {
        let mut text = format!("{}{FLOW}", tag["description"].as_str().unwrap_or_default());
        for Limit { variable, default, what, .. } in &LIMITS {
            text.push_str(&format!("| {variable} | {default} | {what} |\n"));
        }
        tag["description"] = text.into();
    }
}

/// What a program that reads a problem may meet, also where no operation is.
fn all_codes() -> String {
    let rows = Code::ALL.into_iter().map(|code| {
        let (status, name, title) = code.row();
        format!("| {name} | {status} | {title} |\n")
    });
    let text = "The kind of problem as a stable word, for programs. New ones may be added.\n\n";
    format!("{text}| code | status | |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// An example of each problem, by its code.
fn problems() -> Value {
    let mut examples = Mapping::new();
    for code in Code::ALL.into_iter().filter(|code| !codes::NOWHERE.contains(code)) {
        let (status, name, title) = code.row();
        let mut value = Mapping::new();
        value.insert("type".into(), format!("urn:upflow:problem:{name}").into());
        value.insert("title".into(), title.into());
        value.insert("status".into(), status.into());
        value.insert("code".into(), name.into());
        value.insert("detail".into(), code.example().into());
        match code {
            Code::InvalidRequest => {
                let fault = map([
                    ("pointer", "/file_size".into()),
                    ("detail", "must be between 0 and 53687091200000 bytes".into()),
                ]);
                value.insert("errors".into(), Value::Sequence(vec![fault]));
            }
            Code::UploadIncomplete => {
                value.insert("missing_chunks".into(), Value::Sequence(vec![2.into()]));
            }
            _ => {}
        }
        let example = map([("summary", title.into()), ("value", Value::Mapping(value))]);
        examples.insert(name.into(), example);
    }
    Value::Mapping(examples)
}

/// A mapping of these entries, in this order.
fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Mapping(entries.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// Sets what `more` has, deep in mappings.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Mapping(into), Value::Mapping(more)) => {
            for (name, value) in more {
                match into.get_mut(name) {
                    Some(known) => merge(known, value),
                    None => drop(into.insert(name.clone(), value.clone())),
                }
            }
        }
        (into, more) => *into = more.clone(),
    }
}

#[cfg(test)]
mod breaking;
#[cfg(test)]
mod tests;
