use std::collections::BTreeSet;

use super::*;
use crate::auth::routes::ROUTES;

fn operations(spec: &Value) -> Vec<(String, String, &Value)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let paths = spec["paths"].as_mapping().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_mapping().unwrap().iter();
        methods.map(move |(method, operation)| (text(path), text(method), operation))
    });
    operations.collect()
}

#[test]
fn openapi_yaml_is_what_the_code_says() {
    let committed = include_str!("../../../openapi.yaml");
    assert!(
        committed == openapi_yaml(),
        "openapi.yaml is out of date: cargo run -p upflow-api -- openapi > openapi.yaml"
    );
}

#[test]
fn every_operation_is_in_the_table_of_routes_and_no_other_is() {
    let spec = document();
    let known: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase()))
        .collect();
    let found: BTreeSet<(String, String)> =
        operations(&spec).into_iter().map(|(path, method, _)| (path, method)).collect();
    assert_eq!(known, found);
}

#[test]
fn everything_has_a_description_and_an_example() {
    let spec = document();
    let mut lacking = Vec::new();
    let mut need = |place: String, value: &Value, names: &[&str]| {
        for name in names {
            if value.get(name).is_none_or(|text| text.as_str() == Some("")) {
                lacking.push(format!("{place}: {name}"));
            }
        }
    };
    for (name, schema) in spec["components"]["schemas"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        need(name.to_owned(), schema, &["description", "example"]);
        for (field, schema) in schema["properties"].as_mapping().into_iter().flatten() {
            let place = format!("{name}.{}", field.as_str().unwrap());
            need(place, schema, &["description", "example"]);
        }
    }
    for (path, method, operation) in operations(&spec) {
        let place = format!("{method} {path}");
        need(place.clone(), operation, &["summary", "description", "operationId", "security"]);
        for parameter in operation["parameters"].as_sequence().into_iter().flatten() {
            let place = format!("{place} {}", parameter["name"].as_str().unwrap());
            need(place, parameter, &["description", "example"]);
        }
        for (status, answer) in operation["responses"].as_mapping().unwrap() {
            let place = format!("{place} {}", status.as_str().unwrap());
            need(place.clone(), answer, &["description"]);
            for (kind, content) in answer["content"].as_mapping().unwrap() {
                let example = if kind == "application/json" { "example" } else { "examples" };
                need(place.clone(), content, &["schema", example]);
            }
        }
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
}

#[test]
fn every_code_is_answered_by_an_operation_or_where_there_is_none() {
    let yaml = openapi_yaml();
    for code in Code::ALL {
        let used = yaml.contains(&format!("#/components/examples/{}'", code.name()))
            || yaml.contains(&format!("#/components/examples/{}\n", code.name()));
        assert!(used != codes::NOWHERE.contains(&code), "{}", code.name());
    }
    let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
}

#[test]
fn the_overlay_names_nothing_that_is_not_there() {
    let spec = document();
    let overlay: Value = serde_yaml::from_str(include_str!("overlay.yaml")).unwrap();
    for (name, more) in overlay["schemas"].as_mapping().unwrap() {
        let schema = &spec["components"]["schemas"][name];
        assert!(schema.is_mapping(), "{name:?}");
        for (field, _) in more["fields"].as_mapping().into_iter().flatten() {
            assert!(schema["properties"][field].get("description").is_some(), "{field:?}");
        }
    }
    let found: BTreeSet<String> = operations(&spec)
        .into_iter()
        .map(|(.., operation)| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    for (name, _) in overlay["responses"].as_mapping().unwrap() {
        assert!(found.contains(name.as_str().unwrap()), "{name:?}");
    }
}
