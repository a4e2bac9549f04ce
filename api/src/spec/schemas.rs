//! Schemas: examples and constraints, and what the framework writes that generators and linters stumble on.

use serde_yaml::Value;
use upflow_core::plan;

use super::merge;
use crate::limits::ClientLimits;

/// Gives every schema its example, and every field its own out of that.
pub fn complete(schemas: &mut Value, overlay: &Value) {
    let Value::Mapping(schemas) = schemas else { return };
    for (name, schema) in schemas.iter_mut() {
        tidy(schema);
        let more = name.as_str().and_then(|name| overlay.get(name)).unwrap_or(&Value::Null);
        if let Some(Value::Mapping(fields)) = schema.get_mut("properties") {
            for (field, schema) in fields.iter_mut() {
                let example = more.get("example").and_then(|example| example.get(field));
                if let (Some(example), None) = (example, schema.get("$ref")) {
                    schema["example"] = example.clone();
                }
                if let Some(more) = more.get("fields").and_then(|fields| fields.get(field)) {
                    merge(schema, more);
                }
            }
        }
        if let Some(example) = more.get("example") {
            schema["example"] = example.clone();
        }
    }
    let limits = ClientLimits::default();
    let mut set = |schema: &str, field: &str, name: &str, value: Value| {
        if let Some(schema) = schemas.get_mut(schema) {
            schema["properties"][field][name] = value;
        }
    };
    set("InitUpload", "file_size", "minimum", 0.into());
    set("InitUpload", "file_size", "maximum", limits.file_size.into());
    set("InitUpload", "chunk_size", "minimum", plan::MIN_CHUNK_SIZE.into());
    set("InitUpload", "chunk_size", "maximum", plan::MAX_CHUNK_SIZE.into());
    for (schema, least) in [("InitUpload", 0), ("PresignChunks", 1), ("ConfirmChunks", 1)] {
        set(schema, "chunks", "minItems", least.into());
        set(schema, "chunks", "maxItems", limits.batch.into());
    }
    for schema in ["Upload", "NewUpload"] {
        set(schema, "uploaded_chunks", "maxItems", plan::MAX_CHUNKS.into());
    }
    set("UploadPage", "uploads", "maxItems", 100.into());
}

/// `$ref` with a text beside it comes as an allOf of the reference and the text once more; and a time is
/// text to the framework.
pub fn tidy(schema: &mut Value) {
    let Value::Mapping(fields) = schema else { return };
    if let Some(Value::Sequence(all)) = fields.get_mut("allOf") {
        all.retain(|part| part.get("$ref").is_some());
    }
    for (name, field) in fields.iter_mut() {
        match name.as_str() {
            Some("properties") => {
                let Value::Mapping(fields) = field else { continue };
                for (name, field) in fields.iter_mut() {
                    tidy(field);
                    if name.as_str().is_some_and(|name| name.ends_with("_at") || name == "at") {
                        field["format"] = "date-time".into();
                    }
                }
            }
            Some("items" | "additionalProperties") => tidy(field),
            _ => {}
        }
    }
}
