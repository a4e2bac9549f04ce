//! What would break clients that were generated from the last released document, `sdk/released.yaml`. What is
//! only added breaks nobody: operations, optional fields and parameters, answers of errors, values of an answer.

use std::collections::BTreeSet;

use serde_yaml::Value;

/// Which way a schema goes: what a client may send must still be taken, what it expects must still come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Sent,
    Answered,
}

struct Compared<'a> {
    old: &'a Value,
    new: &'a Value,
    breaks: Vec<String>,
}

/// Every way in which `new` breaks clients of `old`.
fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut compared = Compared { old, new, breaks: Vec::new() };
    for (path, methods) in entries(&old["paths"]) {
        for (method, operation) in entries(methods) {
            compared.operation(&format!("{method} {path}"), operation, &new["paths"][path][method]);
        }
    }
    compared.breaks
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let mapping = value.as_mapping().into_iter().flatten();
    mapping.filter_map(|(name, value)| Some((name.as_str()?, value)))
}

fn words(value: &Value) -> BTreeSet<&str> {
    value.as_sequence().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The schema that a reference leads to; one in an allOf of one, too.
fn resolved<'a>(spec: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..8 {
        if let Some(only) = schema.get("allOf").and_then(|all| all.get(0)) {
            schema = only;
        }
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { break };
        let name = reference.rsplit('/').next().unwrap_or_default();
        schema = &spec["components"]["schemas"][name];
    }
    schema
}

impl Compared<'_> {
    fn tell(&mut self, place: &str, what: impl std::fmt::Display) {
        self.breaks.push(format!("{place}: {what}"));
    }

    fn operation(&mut self, place: &str, old: &Value, new: &Value) {
        if !new.is_mapping() {
            return self.tell(place, "is gone");
        }
        if old["operationId"] != new["operationId"] {
            self.tell(place, "has another operationId");
        }
        let schemes = |operation: &Value| -> BTreeSet<String> {
            let all = operation["security"].as_sequence().into_iter().flatten();
            all.flat_map(entries).map(|(name, _)| name.to_owned()).collect()
        };
        for gone in schemes(old).difference(&schemes(new)) {
            self.tell(place, format!("no longer takes {gone}"));
        }
        self.parameters(place, old, new);
        self.bodies(
            place,
            &old["requestBody"]["content"],
            &new["requestBody"]["content"],
            Way::Sent,
        );
        if old.get("requestBody").is_none() && new.get("requestBody").is_some() {
            self.tell(place, "has a body now");
        }
        for (status, answer) in entries(&old["responses"]) {
            let content = &new["responses"][status]["content"];
            match status.starts_with('2') {
                true if !content.is_mapping() => {
                    self.tell(place, format!("no longer answers {status}"))
                }
                false if !content.is_mapping() => {}
                _ => self.bodies(place, &answer["content"], content, Way::Answered),
            }
        }
    }

    fn parameters(&mut self, place: &str, old: &Value, new: &Value) {
        let list =
            |operation: &Value| operation["parameters"].as_sequence().cloned().unwrap_or_default();
        let same = |a: &Value, b: &Value| a["name"] == b["name"] && a["in"] == b["in"];
        for parameter in list(old) {
            let place = format!("{place} {}", parameter["name"].as_str().unwrap_or_default());
            match list(new).iter().find(|other| same(&parameter, other)) {
                None => self.tell(&place, "is gone"),
                Some(other) => {
                    if other["required"] == true && parameter["required"] != true {
                        self.tell(&place, "is required now");
                    }
                    self.schema(&place, &parameter["schema"], &other["schema"], Way::Sent);
                }
            }
        }
        for parameter in list(new).iter().filter(|parameter| parameter["required"] == true) {
            if !list(old).iter().any(|other| same(parameter, other)) {
                let name = parameter["name"].as_str().unwrap_or_default();
                self.tell(place, format!("needs the parameter {name} now"));
            }
        }
    }

    fn bodies(&mut self, place: &str, old: &Value, new: &Value, way: Way) {
        for (kind, content) in entries(old) {
            match new.get(kind) {
                None => self.tell(place, format!("has no {kind} any more")),
                Some(other) => self.schema(place, &content["schema"], &other["schema"], way),
            }
        }
    }

    fn schema(&mut self, place: &str, old: &Value, new: &Value, way: Way) {
        let (old, new) = (resolved(self.old, old).clone(), resolved(self.new, new).clone());
        for name in ["type", "format"] {
            if old.get(name) != new.get(name) {
                self.tell(place, format!("has another {name}"));
            }
        }
        if way == Way::Sent {
            self.narrower(place, &old, &new);
        }
        let (before, after) = (words(&old["required"]), words(&new["required"]));
        for (name, field) in entries(&old["properties"]) {
            let place = format!("{place} {name}");
            match new["properties"].get(name) {
                None => self.tell(&place, "is gone"),
                Some(other) => self.schema(&place, field, other, way),
            }
            if way == Way::Answered && before.contains(name) && !after.contains(name) {
                self.tell(&place, "may be missing now");
            }
        }
        if way == Way::Sent {
            for name in after.difference(&before) {
                self.tell(place, format!("needs {name} now"));
            }
        }
        for inner in ["items", "additionalProperties"] {
            if let (Some(old), Some(new)) = (old.get(inner), new.get(inner)) {
                self.schema(place, old, new, way);
            }
        }
    }

    /// What a client may send now, it must still be able to send.
    fn narrower(&mut self, place: &str, old: &Value, new: &Value) {
        for gone in words(&old["enum"]).difference(&words(&new["enum"])) {
            self.tell(place, format!("no longer takes {gone}"));
        }
        if new.get("enum").is_some() && old.get("enum").is_none() {
            self.tell(place, "takes only some values now");
        }
        let number = |schema: &Value, name: &str| schema.get(name).and_then(Value::as_f64);
        for name in ["maximum", "maxLength", "maxItems"] {
            if number(new, name).unwrap_or(f64::MAX) < number(old, name).unwrap_or(f64::MAX) {
                self.tell(place, format!("has a smaller {name}"));
            }
        }
        for name in ["minimum", "minLength", "minItems"] {
            if number(new, name).unwrap_or(f64::MIN) > number(old, name).unwrap_or(f64::MIN) {
                self.tell(place, format!("has a larger {name}"));
            }
        }
        if new.get("pattern").is_some() && new.get("pattern") != old.get("pattern") {
            self.tell(place, "has another pattern");
        }
    }
}

fn released() -> Value {
    serde_yaml::from_str(include_str!("../../../sdk/released.yaml")).unwrap()
}

#[test]
fn nothing_that_was_released_is_broken() {
    let found = breaks(&released(), &super::document());
    assert!(
        found.is_empty(),
        "clients of the last release would break; undo it, or release a new major version: {found:#?}"
    );
}

#[test]
fn each_kind_of_break_is_noticed() {
    let pointer = |spec: &mut Value, path: &[&str], change: &dyn Fn(&mut Value)| {
        let mut place = spec;
        for name in path {
            place = match name.parse::<usize>() {
                Ok(i) if place.is_sequence() => &mut place[i],
                _ => &mut place[*name],
            };
        }
        change(place);
    };
    let schema = |rest: &[&'static str]| [&["components", "schemas"], rest].concat();
    let list = ["paths", "/uploads", "get"];
    let remove = |name: &'static str| {
        move |place: &mut Value| drop(place.as_mapping_mut().unwrap().remove(name))
    };
    let require = |name: &'static str| {
        move |place: &mut Value| {
            place
                .as_mapping_mut()
                .unwrap()
                .entry("required".into())
                .or_insert(Value::Sequence(vec![]));
            place["required"].as_sequence_mut().unwrap().push(name.into());
        }
    };
    type Change = Box<dyn Fn(&mut Value)>;
    let set = |value: Value| -> Change { Box::new(move |place| *place = value.clone()) };
    let changes: Vec<(Vec<&str>, Change, &str)> = vec![
        (vec!["paths"], Box::new(remove("/stats")), "get /stats: is gone"),
        (list.to_vec(), Box::new(remove("parameters")), "status: is gone"),
        ([&list[..], &["operationId"]].concat(), set("all".into()), "another operationId"),
        ([&list[..], &["responses"]].concat(), Box::new(remove("200")), "no longer answers 200"),
        (
            [&list[..], &["parameters", "0", "required"]].concat(),
            set(true.into()),
            "is required now",
        ),
        (
            vec!["paths", "/uploads/{upload_id}", "get", "security"],
            Box::new(|place| drop(place.as_sequence_mut().unwrap().pop())),
            "no longer takes upload_token",
        ),
        (schema(&["InitUpload"]), Box::new(require("content_type")), "needs content_type now"),
        (schema(&["InitUpload", "properties"]), Box::new(remove("metadata")), "metadata: is gone"),
        (
            schema(&["InitUpload", "properties", "file_size", "maximum"]),
            set(10.into()),
            "has a smaller maximum",
        ),
        (
            schema(&["ChunkRequest", "properties", "checksum", "pattern"]),
            set("x".into()),
            "has another pattern",
        ),
        (
            schema(&["ChecksumAlgorithm", "enum"]),
            Box::new(|place| drop(place.as_sequence_mut().unwrap().pop())),
            "no longer takes crc32c",
        ),
        (schema(&["Upload", "properties"]), Box::new(remove("status")), "status: is gone"),
        (
            schema(&["Upload", "properties", "file_size", "type"]),
            set("string".into()),
            "another type",
        ),
        (schema(&["Upload"]), Box::new(remove("required")), "filename: may be missing now"),
        (schema(&["Problem", "properties"]), Box::new(remove("code")), "code: is gone"),
    ];
    let old = super::document();
    assert_eq!(breaks(&old, &old), Vec::<String>::new());
    for (path, change, said) in changes {
        let mut new = old.clone();
        pointer(&mut new, &path, &change);
        let found = breaks(&old, &new);
        assert!(found.iter().any(|text| text.contains(said)), "{said}: {found:#?}");
    }
    // What is added breaks nobody.
    let mut more = old.clone();
    more["paths"]["/new"] = old["paths"]["/stats"].clone();
    more["components"]["schemas"]["Upload"]["properties"]["new"] =
        super::map([("type", "string".into())]);
    more["components"]["schemas"]["InitUpload"]["properties"]["new"] =
        super::map([("type", "string".into())]);
    more["components"]["schemas"]["UploadStatus"]["enum"]
        .as_sequence_mut()
        .unwrap()
        .push("paused".into());
    assert_eq!(breaks(&old, &more), Vec::<String>::new());
}
