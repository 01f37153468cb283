//! Schemas drawn at random: what is written is valid, and what is valid is accepted.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::structure;
use crate::{Canvas, OPEN};

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        (-50_i64..50, 0_i64..200)
            .prop_map(|(low, width)| json!({"type": "integer", "minimum": low, "maximum": low + width})),
        (-20_i64..20, 1_i64..40).prop_map(|(low, width)| {
            json!({"type": "number", "exclusiveMinimum": low as f64 / 8.0, "maximum": (low + width) as f64 / 8.0})
        }),
        (0_u32..3, 0_u32..5)
            .prop_map(|(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})),
        Just(json!({"enum": ["red", "grün", 3, 2.5, null, [true, {"a": "b\n"}]]})),
        Just(json!({"const": {"k": [1, "x"]}})),
        Just(json!({"type": ["integer", "null"], "minimum": 7})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0_u32..3, 0_u32..3)
                .prop_map(|(items, least, more)| json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})),
            prop::collection::vec((inner.clone(), any::<bool>()), 0..4).prop_map(|members| {
                let name = |i: usize| format!("p{i}");
                let properties: Map<String, Value> =
                    members.iter().enumerate().map(|(i, member)| (name(i), member.0.clone())).collect();
                let required: Vec<_> = (0..members.len()).filter(|&i| members[i].1).map(name).collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }),
            prop::collection::vec(inner, 1..3).prop_map(|any| json!({"anyOf": any})),
        ]
    })
}

/// What JSON Schema 2020-12 says of these keywords, read anew.
fn valid(value: &Value, schema: &Value) -> bool {
    if let Some(any) = schema.get("anyOf") {
        return any.as_array().unwrap().iter().any(|schema| valid(value, schema));
    }
    if let Some(listed) = schema.get("enum") {
        return listed.as_array().unwrap().contains(value);
    }
    if let Some(only) = schema.get("const") {
        return only == value;
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|value| value.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    let typed = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        kind => is(kind.as_str().unwrap()),
    };
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let sized = |size: usize, least: &str, most: &str| {
        limit(least).is_none_or(|least| size as f64 >= least) && limit(most).is_none_or(|most| size as f64 <= most)
    };
    typed
        && match value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap();
                limit("minimum").is_none_or(|low| number >= low)
                    && limit("exclusiveMinimum").is_none_or(|low| number > low)
                    && limit("maximum").is_none_or(|high| number <= high)
            }
            Value::String(text) => sized(text.chars().count(), "minLength", "maxLength"),
            Value::Array(items) => {
                sized(items.len(), "minItems", "maxItems") && items.iter().all(|item| valid(item, &schema["items"]))
            }
            Value::Object(members) => {
                members.iter().all(|(name, value)| schema["properties"].get(name).is_some_and(|own| valid(value, own)))
                    && schema["required"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|name| members.contains_key(name.as_str().unwrap()))
            }
            _ => true,
        }
}

/// As Python's `json.dumps(value, ensure_ascii=False)`.
fn dumped(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(dumped).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{}: {}", json!(name), dumped(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_drawn_is_valid_and_in_the_one_form(
        schema in schemas(), uniforms in prop::collection::vec(0.0_f64..1.0, 40), width in 12_usize..40,
    ) {
        let structure = structure(&schema.to_string(), &[": ", ", ", "{\"", "\": ", "null", "00", "gr"]);
        let length = width.max(structure.needed() as usize);
        let uniforms: Vec<f64> = uniforms.into_iter().cycle().take(length).collect();
        let scores = vec![-5.0; length * 264];
        let canvas = Canvas { tokens: &vec![OPEN; length], first: 0, scores: &scores };
        for path in [structure.draw(canvas, &uniforms).unwrap(), structure.best(canvas).unwrap()] {
            let texts = path.tokens.iter().filter(|&&token| token != 0);
            let bytes: Vec<u8> = texts.flat_map(|&token| structure.vocabulary().text(token).to_vec()).collect();
            let text = String::from_utf8(bytes).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert!(valid(&value, &schema), "{} of {}", text, schema);
            prop_assert_eq!(dumped(&value), text);
        }
    }

    #[test]
    fn a_value_is_accepted_if_and_only_if_it_is_valid(schema in schemas(), other in schemas(), pick in 0_usize..1000) {
        let structure = structure(&schema.to_string(), &[]);
        for value in [instance(&schema, pick), instance(&other, pick)] {
            prop_assert_eq!(structure.accepts(dumped(&value).as_bytes()), valid(&value, &schema), "{} of {}", value, schema);
        }
    }
}

/// Some instance of the schema, with its properties in order.
fn instance(schema: &Value, pick: usize) -> Value {
    let list = |keyword: &str| schema.get(keyword).and_then(Value::as_array);
    if let Some(any) = list("anyOf") {
        return instance(&any[pick % any.len()], pick / 2);
    }
    if let Some(listed) = list("enum") {
        return listed[pick % listed.len()].clone();
    }
    if let Some(only) = schema.get("const") {
        return only.clone();
    }
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_i64).unwrap_or(0);
    let number = i64::try_from(pick).unwrap();
    let whole = |low: i64, high: i64| low + number % (1 + high - low);
    let size = |least: &str, most: &str| usize::try_from(whole(limit(least), limit(most))).unwrap();
    match schema["type"].as_str().unwrap_or("null") {
        "boolean" => json!(pick.is_multiple_of(2)),
        "integer" => json!(whole(limit("minimum"), limit("maximum"))),
        "number" => match schema["maximum"].as_f64().unwrap() {
            whole if whole.fract() == 0.0 => json!(whole as i64),
            decimal => json!(decimal),
        },
        "string" => {
            json!("é\"x"[..].chars().cycle().skip(pick % 3).take(size("minLength", "maxLength")).collect::<String>())
        }
        "array" => (0..size("minItems", "maxItems")).map(|i| instance(&schema["items"], pick / 3 + i)).collect(),
        "object" => {
            let required = list("required").unwrap();
            let members = schema["properties"].as_object().unwrap().iter().enumerate();
            let kept =
                members.filter(|(i, (name, _))| required.contains(&json!(name)) || (pick >> i).is_multiple_of(2));
            kept.map(|(_, (name, own))| (name.clone(), instance(own, pick / 2))).collect()
        }
        _ => Value::Null,
    }
}
