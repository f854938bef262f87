//! The published form of `study.json`: that of the record's types.

use std::path::Path;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::{fixture, record::Study};

/// The JSON Schema (2020-12) of `study.json` as fanout writes it.
fn schema() -> String {
    let schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Study>();
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

/// Newer records may have more fields than the published form names; what is written now may not.
fn close(schema: &mut Value) {
    if schema.get("properties").is_some_and(Value::is_object) {
        schema["additionalProperties"] = false.into();
    }
    match schema {
        Value::Object(parts) => parts.values_mut().for_each(close),
        Value::Array(parts) => parts.iter_mut().for_each(close),
        _ => {}
    }
}

/// Where a value has not the published form, and the keyword that says so.
fn errors(value: &Value) -> Vec<String> {
    let mut schema: Value = serde_json::from_str(&schema()).unwrap();
    close(&mut schema);
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors = validator.iter_errors(value);
    let mut errors: Vec<String> = errors
        .map(|error| format!("{}: {}", error.instance_path(), error.kind().keyword()))
        .collect();
    errors.sort();
    errors
}

#[test]
fn studies_have_the_published_form() {
    let studies = [
        fixture::study(),
        fixture::scaling(),
        fixture::two_servers(),
        fixture::map(),
        Study::default(),
    ];
    for study in studies {
        let value = serde_json::to_value(study).unwrap();
        assert_eq!(errors(&value), Vec::<String>::new());
    }
}

#[test]
fn what_is_missing_unknown_or_of_another_kind_is_found() {
    let mut value = serde_json::to_value(fixture::study()).unwrap();
    value.as_object_mut().unwrap().remove("arms");
    value["manifest"]["surprise"] = 1.into();
    value["trials"][0]["latency_s"]["p50"] = "fast".into();
    value["comparisons"][0]["verdict"] = "best".into();
    value["trials"][1]["makespan_s"] = Value::Null;
    assert_eq!(
        errors(&value),
        [
            "/comparisons/0/verdict: oneOf",
            "/manifest: additionalProperties",
            "/trials/0/latency_s: anyOf",
            ": required",
        ]
    );
}

/// `UPDATE_SCHEMA=1 cargo test -p fanout-analysis schema` writes it anew.
#[test]
fn the_published_copy_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/study.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, schema()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    // As values: the order of keys is no part of a schema.
    let [published, true_one] = [published.as_str(), &schema()]
        .map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
    assert!(
        published == true_one,
        "docs/study.schema.json is out of date: \
         UPDATE_SCHEMA=1 cargo test -p fanout-analysis schema"
    );
}
