use proptest::prelude::*;

use crate::expression::Expression;
use crate::numbers;
use crate::{ConstraintError, Language};

const UNITS: i64 = numbers::UNITS as i64;

fn regex(pattern: &str) -> Language {
    Language::of_regex(pattern).unwrap()
}

fn schema(text: &str) -> Language {
    Language::of_schema(text).unwrap()
}

fn accepts(language: &Language, texts: &[&str]) -> Vec<bool> {
    texts.iter().map(|text| language.accepts(text.as_bytes())).collect()
}

fn refused(result: Result<Language, ConstraintError>) -> (String, String) {
    match result.unwrap_err() {
        ConstraintError::Unsupported { pointer, message, .. } | ConstraintError::Invalid { pointer, message } => {
            (pointer, message)
        }
        ConstraintError::TooLarge(message) => ("too large".to_owned(), message),
    }
}

fn numeral(language: &std::rc::Rc<Expression>) -> Language {
    Language::of(language).unwrap()
}

proptest! {
    #[test]
    fn integers_are_those_between_the_bounds(low in -2000_i64..2000, width in 0_i64..1500) {
        let language = numeral(&numbers::integers(low, low + width));
        for number in -2100..3600 {
            prop_assert_eq!(language.accepts(number.to_string().as_bytes()), (low..=low + width).contains(&number));
        }
        prop_assert!(!language.accepts(b"-0") && !language.accepts(b"007") && !language.accepts(b""));
    }

    #[test]
    fn decimals_are_those_between_the_bounds(
        low in -3 * UNITS..3 * UNITS, width in 0..5 * UNITS, asked in prop::collection::vec(-9 * UNITS..9 * UNITS, 50),
    ) {
        let language = numeral(&numbers::decimals(low, low + width));
        for units in asked.into_iter().chain([low - 1, low, low + width, low + width + 1, 0]) {
            let text = (units as f64 / UNITS as f64).to_string();
            prop_assert_eq!(language.accepts(text.as_bytes()), (low..=low + width).contains(&units), "{}", text);
        }
    }

    #[test]
    fn what_is_no_number_is_not_accepted(text in "[-.0-9]{1,6}") {
        let language = numeral(&numbers::decimals(-999 * UNITS, 999 * UNITS));
        let written = text.parse::<f64>().map(|value| value.to_string());
        let canonical = written.is_ok_and(|written| written == text) && text != "-0";
        let places = text.split_once('.').map_or(0, |(_, places)| places.len());
        let within = text.parse::<f64>().is_ok_and(|value| value.abs() <= 999.0);
        prop_assert_eq!(language.accepts(text.as_bytes()), canonical && within && places <= 4);
    }
}

#[test]
fn a_pattern_matches_the_whole_text() {
    let language = regex(r"^(?:get|set)_[a-z]{2,3}\d?$");
    let texts = ["get_ab", "set_abc7", "get_a", "xget_ab", "get_abcd", "get_ab77", ""];
    assert_eq!(accepts(&language, &texts), [true, true, false, false, false, false, false]);
    assert_eq!(accepts(&regex("ä|[☃-☄]+"), &["ä", "☃☄", "a", ""]), [true, true, false, false]);
    assert_eq!(accepts(&regex(r"[\w.[]+"), &["a_9.[", "é"]), [true, false]);
    assert_eq!(accepts(&regex("(?:){4000000000}a"), &["a", ""]), [true, false]);
}

#[test]
fn what_a_pattern_cannot_say_is_refused() {
    let cases = [
        (r"a\bc", "the pattern looks around inside (WordUnicode)"),
        ("a^b", "the pattern looks around inside (Start)"),
        ("(a)\\1", "the pattern \"(a)\\\\1\" is not supported: backreferences are not supported"),
        (
            "(?=a)",
            "the pattern \"(?=a)\" is not supported: look-around, including look-ahead and look-behind, is not supported",
        ),
        ("[", "the pattern \"[\" is not supported: unclosed character class"),
        (r"[^\x{0}-\x{10FFFF}]", "nothing satisfies it; expected at least one text"),
    ];
    for (pattern, message) in cases {
        assert_eq!(refused(Language::of_regex(pattern)), (String::new(), message.to_owned()));
    }
}

#[test]
fn what_is_too_large_is_refused_soon() {
    let doubled = (1..25)
        .map(|i| format!(r##","d{i}":{{"type":"array","items":{{"$ref":"#/$defs/d{}"}},"minItems":2}}"##, i - 1));
    let laughs =
        format!(r##"{{"$ref":"#/$defs/d24","$defs":{{"d0":{{"type":"null"}}{}}}}}"##, doubled.collect::<String>());
    let nested = "{\"type\":\"array\",\"items\":".repeat(65) + "{\"type\":\"null\"}" + &"}".repeat(65);
    let cases = [
        (Language::of_regex("(a|b)*a(a|b){20}"), "the automaton has more than 8192 states"),
        (
            Language::of_regex("(.{1,200}){1,200}"),
            "the automaton has more than 65536 states before it is made deterministic",
        ),
        (Language::of_regex(&"a".repeat(8193)), "the pattern has 8193 bytes; expected at most 8192"),
        (Language::of_schema(r#"{"type":"string","maxLength":6000}"#), "the automaton has more than 8192 states"),
        (Language::of_schema(&laughs), "the automaton has more than 65536 states before it is made deterministic"),
        (Language::of_schema(&nested), "the schema is nested more than 64 deep"),
    ];
    for (result, message) in cases {
        assert_eq!(refused(result), ("too large".to_owned(), message.to_owned()));
    }
}

#[test]
fn objects_are_written_in_the_order_of_the_schema() {
    let language = schema(
        r#"{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"const": "x\ty"}, "c": {"type": "null"}},
            "required": ["b"], "additionalProperties": false, "title": "of no account"}"#,
    );
    let texts = [
        r#"{"a": true, "b": "x\ty", "c": null}"#,
        r#"{"b": "x\ty"}"#,
        r#"{"b": "x\ty", "c": null}"#,
        r#"{"a": true}"#,
        r#"{"c": null, "b": "x\ty"}"#,
        r#"{"b":"x\ty"}"#,
        r#"{"b": "x\ty", }"#,
        "{}",
    ];
    assert_eq!(accepts(&language, &texts), [true, true, true, false, false, false, false, false]);
    assert_eq!(accepts(&schema(r#"{"type": "object"}"#), &["{}", "{\"a\": 1}"]), [true, false]);
}

#[test]
fn strings_are_written_as_json_writes_them() {
    let any = schema(r#"{"type": "string"}"#);
    let texts = [r#""""#, r#""a\"\\\n\u0041""#, r#""a\"\\\n é☃𝄞""#, "\"\n\"", "\"\u{0}\"", "\"", r#""a"b""#];
    assert_eq!(accepts(&any, &texts), [true, false, true, false, false, false, false]);
    let sized = schema(r#"{"type": "string", "minLength": 1, "maxLength": 2}"#);
    assert_eq!(accepts(&sized, &[r#""""#, r#""\n☃""#, r#""abc""#]), [false, true, false]);
    let long = schema(r#"{"type": "string", "maxLength": 300}"#);
    let (just, over) = (format!("\"{}\"", "\\\"".repeat(300)), format!("\"{}\"", "x".repeat(301)));
    assert_eq!(accepts(&long, &[&just, &over, r#""☃""#]), [true, false, false]);
}

#[test]
fn a_pattern_of_a_string_is_searched_and_escaped() {
    let searched = schema(r#"{"type": "string", "pattern": "^a\"|(b$)"}"#);
    let texts = [r#""a\"x""#, r#""xb""#, r#""xa\"""#, r#""bx""#];
    assert_eq!(accepts(&searched, &texts), [true, true, false, false]);
    assert_eq!(
        refused(Language::of_schema(r#"{"type": "string", "pattern": "(^a)b"}"#)),
        ("/pattern".to_owned(), "the pattern looks around inside (Start)".to_owned())
    );
}

#[test]
fn arrays_have_the_items_they_may_have() {
    let language =
        schema(r#"{"type": "array", "items": {"enum": [1, [2, {"k": null}]]}, "minItems": 1, "maxItems": 2}"#);
    let texts = ["[1]", "[1, [2, {\"k\": null}]]", "[]", "[1, 1, 1]", "[1,1]"];
    assert_eq!(accepts(&language, &texts), [true, true, false, false, false]);
    let tuple = schema(r#"{"prefixItems": [{"type": "null"}, {"type": "boolean"}], "items": false, "type": "array"}"#);
    assert_eq!(accepts(&tuple, &["[null, true]", "[null]"]), [true, false]);
}

#[test]
fn alternatives_and_references_are_followed() {
    let language = schema(
        r##"{"anyOf": [{"$ref": "#/$defs/size"}, {"type": ["string", "null"], "format": "date"}],
            "$defs": {"size": {"type": "integer", "exclusiveMinimum": 0, "maximum": 12}}}"##,
    );
    let texts = ["1", "12", "0", "13", "\"2024-02-28\"", "\"2024-02-30\"", "null"];
    assert_eq!(accepts(&language, &texts), [true, true, false, false, true, false, true]);
}

#[test]
fn what_a_schema_cannot_say_is_refused_by_name() {
    let cases = [
        (
            r#"{"type": "array", "items": {"type": "null"}, "uniqueItems": true}"#,
            "/uniqueItems",
            "the keyword \"uniqueItems\" is not supported here",
        ),
        (
            r#"{"type": "object", "properties": {"a/b": {"type": "integer", "multipleOf": 5}}}"#,
            "/properties/a~1b/multipleOf",
            "multipleOf is 5; of whole numbers only 1 is supported",
        ),
        (
            r#"{"type": "object", "additionalProperties": {"type": "null"}}"#,
            "/additionalProperties",
            "additionalProperties is {\"type\":\"null\"}; expected true or false",
        ),
        (r#"{"type": "object", "required": ["x"]}"#, "/required", "required names \"x\", which properties does not"),
        (r#"{"oneOf": [{"type": "null"}]}"#, "/oneOf", "the keyword \"oneOf\" is not supported here"),
        (r#"{"type": "string", "minimum": 3}"#, "/minimum", "the keyword \"minimum\" is not supported here"),
        (r#"{"type": "string", "format": "iri"}"#, "/format", "the format \"iri\" is not supported"),
        (
            r#"{"type": "string", "format": "date", "maxLength": 9}"#,
            "/maxLength",
            "maxLength beside format is not supported",
        ),
        (r#"{"anyOf": [{"type": "null"}], "minimum": 3}"#, "/minimum", "minimum beside anyOf is not supported"),
        (
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}"##,
            "/$defs/a/items/$ref",
            "$ref \"#/$defs/a\" is recursive",
        ),
        (r##"{"$ref": "#/$defs/b"}"##, "/$ref", "$ref \"#/$defs/b\" is not in the schema"),
        ("{}", "/type", "a schema without type is not supported"),
        ("true", "", "a schema is true; expected an object"),
        (r#"{"type": "array"}"#, "/items", "an array without items is not supported"),
        (
            r#"{"type": "text"}"#,
            "/type",
            "\"text\" is no type; expected one of object, array, string, integer, number, boolean, null",
        ),
        (r#"{"type": "integer", "minimum": 3, "exclusiveMaximum": 3}"#, "", "no number lies between the bounds"),
        (r#"{"enum": [1], "type": "string"}"#, "", "enum or const lists no value of the type"),
        (
            r#"{"type": "string", "maxLength": -1}"#,
            "/maxLength",
            "maxLength is -1; expected a whole number of at least 0",
        ),
        ("{", "", "the schema is not JSON: EOF while parsing an object at line 1 column 1"),
    ];
    for (text, pointer, message) in cases {
        assert_eq!(refused(Language::of_schema(text)), (pointer.to_owned(), message.to_owned()));
    }
}
