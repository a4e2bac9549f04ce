//! Operations: what each needs of its caller, its parameters, and every answer that it can give.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::{codes, map, merge, schemas};
use crate::auth::routes::{Need, ROUTES, Route};
use crate::problem::Code;

/// What each answer of an error says of itself, by its status.
const WHY: [(u16, &str); 13] = [
    (400, "The request cannot be read"),
    (401, "The API key or token is missing, wrong or has ended"),
    (403, "The caller may not do this"),
    (404, "There is no such upload, or it is another owner's"),
    (408, "The body took too long"),
    (409, "The upload, a chunk or a limit does not allow it now"),
    (413, "The body is too large"),
    (415, "The body is not `application/json`"),
    (421, "The server does not answer to this name"),
    (422, "A value does not fit; `errors` says which and why"),
    (429, "The key makes more requests than it may"),
    (500, "Something went wrong on the server's side"),
    (503, "The database or the storage does not answer; nothing is lost"),
];

/// Completes all operations of the table of routes.
pub fn complete(spec: &mut Value, overlay: &Value) {
    for Route { method, path, need, .. } in &ROUTES {
        let need = *need;
        let schemas = spec["components"]["schemas"].clone();
        let operation = &mut spec["paths"][path][method.as_str().to_lowercase()];
        let Some(name) = operation["operationId"].as_str().map(str::to_owned) else { continue };
        operation["security"] = security(need);
        parameters(operation, &overlay["parameters"]);
        let has_body = operation.get("requestBody").is_some();
        if has_body {
            example(&mut operation["requestBody"]["content"]["application/json"], &schemas);
        }
        let codes = codes::of(&name, need, path.contains("{upload_id}"), has_body);
        let texts = &overlay["responses"][name.as_str()];
        answers(operation, &codes, texts, &schemas);
    }
}

fn security(need: Need) -> Value {
    let scheme = |name: &str| map([(name, Value::Sequence(Vec::new()))]);
    let schemes = match need {
        Need::Key | Need::Admin => vec![scheme("api_key")],
        Need::Upload => vec![scheme("api_key"), scheme("upload_token")],
    };
    Value::Sequence(schemes)
}

fn parameters(operation: &mut Value, overlay: &Value) {
    let operation_id = operation["operationId"].as_str().map(str::to_owned);
    let Some(Value::Sequence(parameters)) = operation.get_mut("parameters") else { return };
    for parameter in parameters {
        if let Value::Mapping(fields) = parameter {
            // The defaults.
            fields.remove("explode");
            fields.remove("deprecated");
        }
        schemas::tidy(&mut parameter["schema"]);
        let Some(name) = parameter["name"].as_str() else { continue };
        // One name may stand for something else in one operation.
        let own = operation_id.as_deref().and_then(|id| overlay.get(format!("{id}.{name}")));
        if let Some(more) = own.or_else(|| overlay.get(name)) {
            merge(parameter, more);
        }
    }
}

/// The example of the schema that a body is of.
fn example(content: &mut Value, schemas: &Value) {
    let name =
        content["schema"]["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    if let Some(example) = name.and_then(|name| schemas[name].get("example")) {
        content["example"] = example.clone();
    }
}

/// The operation's own answers, and one for each status of its problems.
fn answers(operation: &mut Value, codes: &[Code], texts: &Value, schemas: &Value) {
    let mut answers = Mapping::new();
    let Some(Value::Mapping(known)) = operation.get("responses") else { return };
    for (status, answer) in known.iter().filter(|(status, _)| is_success(status)) {
        let mut answer = answer.clone();
        if let Some(text) = status.as_str().and_then(|status| texts.get(status)) {
            answer["description"] = text.clone();
        }
        if let Some(Value::Mapping(content)) = answer.get_mut("content")
            && let Some(mut json) = content.remove("application/json; charset=utf-8")
        {
            example(&mut json, schemas);
            content.insert("application/json".into(), json);
        }
        answers.insert(status.clone(), answer);
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.row().0).or_default().push(*code);
    }
    for (status, codes) in by_status {
        answers.insert(status.to_string().into(), problem(status, &codes));
    }
    operation["responses"] = Value::Mapping(answers);
}

fn is_success(status: &Value) -> bool {
    status.as_str().is_some_and(|status| status.starts_with('2'))
}

fn problem(status: u16, codes: &[Code]) -> Value {
    let why = WHY.iter().find(|(known, _)| *known == status).map_or("An error", |(_, why)| why);
    let names: Vec<String> = codes.iter().map(|code| format!("`{}`", code.name())).collect();
    let examples = codes.iter().map(|code| {
        let reference = format!("#/components/examples/{}", code.name());
        (Value::from(code.name()), map([("$ref", reference.into())]))
    });
    let content = map([
        ("schema", map([("$ref", "#/components/schemas/Problem".into())])),
        ("examples", Value::Mapping(examples.collect())),
    ]);
    let mut answer = map([("description", format!("{why}: {}.", names.join(", ")).into())]);
    if let Some((name, text, kind, example)) = header(status) {
        let schema = map([("type", kind.into()), ("example", example)]);
        let header = map([("description", text.into()), ("schema", schema)]);
        answer["headers"] = map([(name, header)]);
    }
    answer["content"] = map([("application/problem+json", content)]);
    answer
}

fn header(status: u16) -> Option<(&'static str, &'static str, &'static str, Value)> {
    match status {
        401 => {
            let example = r#"Bearer realm="upflow", error="invalid_token""#;
            let text = "What the server asks for (RFC 6750, section 3).";
            Some(("WWW-Authenticate", text, "string", example.into()))
        }
        409 | 429 | 503 => {
            let text = "Seconds after which to ask again, where that may help.";
            Some(("Retry-After", text, "integer", 1.into()))
        }
        _ => None,
    }
}
