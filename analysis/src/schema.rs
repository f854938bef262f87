//! The published form of `study.json`.

use schemars::generate::SchemaSettings;

use crate::record::Study;

/// The JSON Schema (2020-12) of `study.json` as fanout writes it, indented,
/// with a newline at the end.
#[must_use]
pub fn schema() -> String {
    let schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Study>();
    let mut text = serde_json::to_string_pretty(&schema)
        .expect("a schema has string keys only, and writing into memory cannot fail");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::fixture;

    /// Where a value does not have the schema's form: types, required and
    /// unknown fields, references, alternatives. Enough of JSON Schema for what
    /// the record uses; an unknown keyword is an error.
    fn check(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
        let Value::Object(keywords) = schema else {
            errors.push(format!("{at}: not a schema"));
            return;
        };
        for (keyword, rule) in keywords {
            let wrong =
                match keyword.as_str() {
                    "$schema" | "$defs" | "title" | "description" | "format" | "default" => false,
                    "$ref" => {
                        let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                        check(root, root.pointer(path).unwrap(), value, at, errors);
                        false
                    }
                    "type" => {
                        let is = |name: &Value| match name.as_str().unwrap() {
                            "object" => value.is_object(),
                            "array" => value.is_array(),
                            "string" => value.is_string(),
                            "boolean" => value.is_boolean(),
                            "null" => value.is_null(),
                            "number" => value.is_number(),
                            "integer" => value.is_u64() || value.is_i64(),
                            other => panic!("unknown type {other}"),
                        };
                        match rule {
                            Value::Array(names) => !names.iter().any(is),
                            name => !is(name),
                        }
                    }
                    "required" => rule.as_array().unwrap().iter().any(|name| {
                        value.is_object() && value.get(name.as_str().unwrap()).is_none()
                    }),
                    "properties" => {
                        for (name, schema) in rule.as_object().unwrap() {
                            if let Some(value) = value.get(name) {
                                check(root, schema, value, &format!("{at}/{name}"), errors);
                            }
                        }
                        let known = |name: &String| rule.get(name).is_some();
                        value
                            .as_object()
                            .is_some_and(|fields| !fields.keys().all(known))
                    }
                    "additionalProperties" => {
                        for (name, value) in value.as_object().into_iter().flatten() {
                            check(root, rule, value, &format!("{at}/{name}"), errors);
                        }
                        false
                    }
                    "items" => {
                        for (place, value) in value.as_array().into_iter().flatten().enumerate() {
                            check(root, rule, value, &format!("{at}/{place}"), errors);
                        }
                        false
                    }
                    "minItems" | "maxItems" => value.as_array().is_some_and(|items| {
                        let n = rule.as_u64().unwrap();
                        let len = items.len() as u64;
                        if keyword == "minItems" {
                            len < n
                        } else {
                            len > n
                        }
                    }),
                    "minimum" | "maximum" => value.as_f64().is_some_and(|x| {
                        let bound = rule.as_f64().unwrap();
                        if keyword == "minimum" {
                            x < bound
                        } else {
                            x > bound
                        }
                    }),
                    "const" => rule != value,
                    "anyOf" | "oneOf" => !rule.as_array().unwrap().iter().any(|schema| {
                        let mut inner = Vec::new();
                        check(root, schema, value, at, &mut inner);
                        inner.is_empty()
                    }),
                    other => panic!("unknown keyword {other}"),
                };
            if wrong {
                errors.push(format!("{at}: {keyword}"));
            }
        }
    }

    fn errors(value: &Value) -> Vec<String> {
        let root: Value = serde_json::from_str(&schema()).unwrap();
        let mut errors = Vec::new();
        check(&root, &root, value, "", &mut errors);
        errors
    }

    #[test]
    fn studies_have_the_published_form() {
        for study in [fixture::study(), fixture::scaling(), Study::default()] {
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
                "/manifest: properties",
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
}
