//! JSON Schema (2020-12) as expressions over bytes: the subset whose instances are regular, written in one form.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::error::ConstraintError;
use crate::expression::{Expression, Member};
use crate::{numbers, regex, strings};

/// Schemas inside of schemas, references followed.
pub const MOST_DEPTH: usize = 64;
/// Whole numbers without bounds have at most 15 digits, decimals 9 before the point.
const MOST_INTEGER: i64 = 1_000_000_000_000_000 - 1;
const MOST_DECIMAL: i64 = 1_000_000_000 * numbers::UNITS as i64 - 1;
const FURTHEST: i64 = 1_000_000_000_000_000_000 - 1;

/// Say nothing about what is valid.
const ANNOTATIONS: [&str; 13] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
];
const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];
const DAY: &str = r"[0-9]{3}[1-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])";
const TIME: &str = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])";
/// Patterns whose every match has the format.
const FORMATS: [(&str, &str); 6] = [
    ("uuid", r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    ("ipv4", r"((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"),
    ("email", r"[a-z0-9]+([._-][a-z0-9]+)*@[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*\.[a-z]{2,8}"),
    ("uri", r"https?://[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~-]*)*"),
    ("hostname", r"[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*"),
    ("time", TIME),
];

/// The JSON texts that the schema allows.
pub(crate) fn expression(schema: &str) -> Result<Rc<Expression>, ConstraintError> {
    let root: Value = serde_json::from_str(schema)
        .map_err(|error| ConstraintError::invalid("", format!("the schema is not JSON: {error}")))?;
    Schemas { root: &root, known: HashMap::new(), open: Vec::new() }.of(&root, "", 0)
}

/// One document, and what its references have become.
struct Schemas<'a> {
    root: &'a Value,
    known: HashMap<String, Rc<Expression>>,
    open: Vec<String>,
}

type Built = Result<Rc<Expression>, ConstraintError>;

impl Schemas<'_> {
    fn of(&mut self, schema: &Value, at: &str, depth: usize) -> Built {
        if depth > MOST_DEPTH {
            return Err(ConstraintError::TooLarge(format!("the schema is nested more than {MOST_DEPTH} deep")));
        }
        let Value::Object(schema) = schema else {
            let hint = "write a schema as an object that says which type it means";
            return Err(ConstraintError::unsupported(at, format!("a schema is {schema}; expected an object"), hint));
        };
        let said = |keyword: &str| schema.contains_key(keyword);
        if said("$ref") {
            only(schema, at, "$ref", &["$ref"])?;
            return self.reference(&schema["$ref"], at, depth);
        }
        for keyword in ["anyOf", "allOf"] {
            if said(keyword) {
                only(schema, at, keyword, &[keyword, "type"])?;
                return self.several(schema, keyword, at, depth);
            }
        }
        if said("const") {
            only(schema, at, "const", &["const", "type"])?;
            return values(std::slice::from_ref(&schema["const"]), schema, at);
        }
        if let Some(listed) = schema.get("enum") {
            only(schema, at, "enum", &["enum", "type"])?;
            let Value::Array(listed) = listed else { return Err(wrong(at, "enum", listed, "an array")) };
            return values(listed, schema, at);
        }
        let types = types_of(schema, at)?;
        for keyword in schema.keys() {
            if !ANNOTATIONS.contains(&keyword.as_str())
                && !types.iter().any(|each| keywords_of(each).contains(&keyword.as_str()))
            {
                return Err(unsupported(at, keyword));
            }
        }
        let kinds = types.iter().map(|each| self.kind(each, schema, at, depth)).collect::<Result<Vec<_>, _>>()?;
        Ok(Expression::either(kinds))
    }

    fn kind(&mut self, kind: &str, schema: &Map<String, Value>, at: &str, depth: usize) -> Built {
        match kind {
            "object" => self.object(schema, at, depth),
            "array" => self.array(schema, at, depth),
            "string" => string(schema, at),
            "integer" => integer(schema, at),
            "number" => number(schema, at),
            "boolean" => Ok(Expression::either([Expression::text("true"), Expression::text("false")])),
            _ => Ok(Expression::text("null")),
        }
    }

    fn reference(&mut self, target: &Value, at: &str, depth: usize) -> Built {
        let here = format!("{at}/$ref");
        let Value::String(target) = target else { return Err(wrong(at, "$ref", target, "a string")) };
        if let Some(known) = self.known.get(target) {
            return Ok(Rc::clone(known));
        }
        if self.open.contains(target) {
            let hint = "write out as many levels as are needed";
            return Err(ConstraintError::unsupported(here, format!("$ref {target:?} is recursive"), hint));
        }
        let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(found) = found else {
            let hint = "refer to a schema of this document, as in #/$defs/name";
            return Err(ConstraintError::unsupported(here, format!("$ref {target:?} is not in the schema"), hint));
        };
        self.open.push(target.clone());
        let built = self.of(found, &target[1..], depth + 1)?;
        self.open.pop();
        self.known.insert(target.clone(), Rc::clone(&built));
        Ok(built)
    }

    fn several(&mut self, schema: &Map<String, Value>, keyword: &str, at: &str, depth: usize) -> Built {
        let Value::Array(listed) = &schema[keyword] else {
            return Err(wrong(at, keyword, &schema[keyword], "an array"));
        };
        if keyword == "allOf" && listed.len() != 1 {
            let hint = "write one schema that says all of it";
            return Err(ConstraintError::unsupported(
                format!("{at}/allOf"),
                "allOf of several schemas is not supported",
                hint,
            ));
        }
        let typed = schema.get("type");
        let parts = listed.iter().enumerate().map(|(i, part)| {
            let at = format!("{at}/{keyword}/{i}");
            let Some(typed) = typed else { return self.of(part, &at, depth + 1) };
            match part.get("type") {
                Some(own) if own == typed => self.of(part, &at, depth + 1),
                None if part.is_object() => {
                    let mut part = part.clone();
                    part["type"] = typed.clone();
                    self.of(&part, &at, depth + 1)
                }
                _ => Err(beside(&at, "type", keyword)),
            }
        });
        Ok(Expression::either(parts.collect::<Result<Vec<_>, _>>()?))
    }

    fn object(&mut self, schema: &Map<String, Value>, at: &str, depth: usize) -> Built {
        let none = Map::new();
        let properties = match schema.get("properties") {
            None => &none,
            Some(Value::Object(properties)) => properties,
            Some(other) => return Err(wrong(at, "properties", other, "an object")),
        };
        if let Some(other) = schema.get("additionalProperties").filter(|value| !value.is_boolean()) {
            let hint = "name the properties: only named ones are written";
            let message = format!("additionalProperties is {other}; expected true or false");
            return Err(ConstraintError::unsupported(format!("{at}/additionalProperties"), message, hint));
        }
        let required = names(schema, "required", at)?;
        if let Some(missing) = required.iter().find(|name| !properties.contains_key(**name)) {
            let hint = "say under properties what it is";
            let message = format!("required names {missing:?}, which properties does not");
            return Err(ConstraintError::unsupported(format!("{at}/required"), message, hint));
        }
        let mut members = Vec::new();
        for (name, value) in properties {
            members.push(Member {
                name: format!("{}: ", Value::String(name.clone())).into_bytes(),
                value: self.of(value, &format!("{at}/properties/{}", escaped(name)), depth + 1)?,
                required: required.contains(&name.as_str()),
            });
        }
        let members = Rc::new(Expression::Members(members));
        Ok(Expression::sequence([Expression::text("{"), members, Expression::text("}")]))
    }

    fn array(&mut self, schema: &Map<String, Value>, at: &str, depth: usize) -> Built {
        let (least, most) = sizes(schema, ("minItems", "maxItems"), at)?;
        let comma = || Expression::text(", ");
        let around = |inside| Expression::sequence([Expression::text("["), inside, Expression::text("]")]);
        if let Some(listed) = schema.get("prefixItems") {
            let Value::Array(listed) = listed else { return Err(wrong(at, "prefixItems", listed, "an array")) };
            let closed = schema.get("items") == Some(&Value::Bool(false)) || most == Some(listed.len() as u32);
            if !closed || least > listed.len() as u32 {
                return Err(ConstraintError::unsupported(
                    format!("{at}/prefixItems"),
                    "prefixItems without \"items\": false is not supported",
                    "add \"items\": false, so that the array has exactly these items",
                ));
            }
            let mut parts = Vec::new();
            for (i, item) in listed.iter().enumerate() {
                parts.extend((i > 0).then(comma));
                parts.push(self.of(item, &format!("{at}/prefixItems/{i}"), depth + 1)?);
            }
            return Ok(around(Expression::sequence(parts)));
        }
        let Some(items) = schema.get("items") else {
            if most == Some(0) {
                return Ok(Expression::text("[]"));
            }
            let hint = "say with items what the array holds";
            return Err(ConstraintError::unsupported(
                format!("{at}/items"),
                "an array without items is not supported",
                hint,
            ));
        };
        let item = self.of(items, &format!("{at}/items"), depth + 1)?;
        let more = Expression::sequence([comma(), Rc::clone(&item)]);
        let rest = Expression::repeat(more, least.saturating_sub(1), most.map(|most| most.saturating_sub(1)));
        let some = Expression::sequence([item, rest]);
        Ok(around(match (least, most) {
            (_, Some(0)) => Expression::text(""),
            (0, _) => Expression::either([Expression::text(""), some]),
            _ => some,
        }))
    }
}

fn string(schema: &Map<String, Value>, at: &str) -> Built {
    let (least, most) = sizes(schema, ("minLength", "maxLength"), at)?;
    let sized = least > 0 || most.is_some();
    let inside = match (schema.get("pattern"), schema.get("format")) {
        (None, None) => strings::characters(least, most),
        (Some(Value::String(pattern)), None) => {
            if sized {
                return Err(beside(at, if least > 0 { "minLength" } else { "maxLength" }, "pattern"));
            }
            regex::found_in_json(pattern).map_err(|error| placed(error, format!("{at}/pattern")))?
        }
        (None, Some(Value::String(format))) => {
            if sized {
                return Err(beside(at, if least > 0 { "minLength" } else { "maxLength" }, "format"));
            }
            let known = FORMATS.iter().find(|(name, _)| name == format).map(|(_, pattern)| (*pattern).to_owned());
            let pattern = match format.as_str() {
                "date" => Some(DAY.to_owned()),
                "date-time" => Some(format!("{DAY}T{TIME}")),
                _ => known,
            };
            let Some(pattern) = pattern else {
                return Err(ConstraintError::unsupported(
                    format!("{at}/format"),
                    format!("the format {format:?} is not supported"),
                    "use date, time, date-time, uuid, ipv4, email, uri or hostname, or a pattern",
                ));
            };
            regex::found_in_json(&format!("^(?:{pattern})$"))?
        }
        (Some(Value::String(_)), Some(_)) => return Err(beside(at, "format", "pattern")),
        (Some(other), _) => return Err(wrong(at, "pattern", other, "a string")),
        (_, Some(other)) => return Err(wrong(at, "format", other, "a string")),
    };
    Ok(strings::quoted(inside))
}

fn integer(schema: &Map<String, Value>, at: &str) -> Built {
    if let Some(step) = schema.get("multipleOf").filter(|step| step.as_f64() != Some(1.0)) {
        return Err(ConstraintError::unsupported(
            format!("{at}/multipleOf"),
            format!("multipleOf is {step}; of whole numbers only 1 is supported"),
            "list the values with enum",
        ));
    }
    let bounds = bounds(schema, at, 1.0)?;
    let (low, high) = within(bounds, MOST_INTEGER);
    empty_unless(low <= high, at)?;
    Ok(numbers::integers(low, high))
}

fn number(schema: &Map<String, Value>, at: &str) -> Built {
    if schema.contains_key("multipleOf") {
        return Err(unsupported(at, "multipleOf"));
    }
    let bounds = bounds(schema, at, f64::from(numbers::UNITS))?;
    let (low, high) = within(bounds, MOST_DECIMAL);
    empty_unless(low <= high, at)?;
    Ok(numbers::decimals(low, high))
}

fn empty_unless(some: bool, at: &str) -> Result<(), ConstraintError> {
    if some { Ok(()) } else { Err(ConstraintError::invalid(at, "no number lies between the bounds")) }
}

/// Bounds in units, both ends included: a bound that is not a whole number of units moves inwards.
fn bounds(schema: &Map<String, Value>, at: &str, units: f64) -> Result<(Option<i64>, Option<i64>), ConstraintError> {
    let bound = |keyword: &str| match schema.get(keyword) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(at, keyword, value, "a number")),
    };
    let counted = |value: f64, up: bool, exclusive: bool| {
        let nearest = (value * units).round();
        #[expect(clippy::float_cmp, reason = "whether the bound is exactly so many units")]
        let exact = nearest / units == value;
        let inward = if up { (value * units).ceil() } else { (value * units).floor() };
        let units = if exact { nearest } else { inward };
        let step = i64::from(exact && exclusive);
        let units = units.clamp(-1e18, 1e18) as i64;
        if up { units.saturating_add(step) } else { units.saturating_sub(step) }
    };
    let lows = [
        bound("minimum")?.map(|value| counted(value, true, false)),
        bound("exclusiveMinimum")?.map(|value| counted(value, true, true)),
    ];
    let highs = [
        bound("maximum")?.map(|value| counted(value, false, false)),
        bound("exclusiveMaximum")?.map(|value| counted(value, false, true)),
    ];
    Ok((lows.into_iter().flatten().max(), highs.into_iter().flatten().min()))
}

/// Where there is no bound, `most` is one, or ten times what the other bound is.
fn within((low, high): (Option<i64>, Option<i64>), most: i64) -> (i64, i64) {
    let far = |other: i64| most.max(other.saturating_mul(10)).min(FURTHEST);
    let lowest = low.unwrap_or_else(|| -far(high.unwrap_or(0).saturating_neg()));
    let highest = high.unwrap_or_else(|| far(low.unwrap_or(0)));
    (lowest.max(-FURTHEST), highest.min(FURTHEST))
}

/// The listed values that have the type, as JSON.
fn values(listed: &[Value], schema: &Map<String, Value>, at: &str) -> Built {
    let types = if schema.contains_key("type") { types_of(schema, at)? } else { TYPES.to_vec() };
    let fitting = |value: &&Value| types.iter().any(|each| is(value, each));
    let texts: Vec<_> = listed.iter().filter(fitting).map(|value| Expression::text(&written(value))).collect();
    if texts.is_empty() {
        return Err(ConstraintError::invalid(at, "enum or const lists no value of the type"));
    }
    Ok(Expression::either(texts))
}

fn is(value: &Value, kind: &str) -> bool {
    match value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::Number(number) => {
            kind == "number" || kind == "integer" && number.as_f64().is_some_and(|value| value.fract() == 0.0)
        }
        Value::String(_) => kind == "string",
        Value::Array(_) => kind == "array",
        Value::Object(_) => kind == "object",
    }
}

/// A value as `json.dumps(value, ensure_ascii=False)` writes it.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::String(name.clone()), written(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The types that a schema names, or that its keywords are about.
fn types_of<'a>(schema: &'a Map<String, Value>, at: &str) -> Result<Vec<&'a str>, ConstraintError> {
    let named: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(_)) => names(schema, "type", at)?,
        Some(other) => return Err(wrong(at, "type", other, "a name or an array of names")),
        None => {
            let said = |kind: &&&str| keywords_of(kind).iter().any(|keyword| schema.contains_key(*keyword));
            let meant: Vec<&str> = TYPES.iter().filter(said).copied().filter(|kind| *kind != "integer").collect();
            if let Some(keyword) = schema.keys().find(|keyword| {
                !ANNOTATIONS.contains(&keyword.as_str())
                    && !TYPES.iter().any(|kind| keywords_of(kind).contains(&keyword.as_str()))
            }) {
                return Err(unsupported(at, keyword));
            }
            if meant.len() != 1 {
                let hint = "say with type, enum or const what may be written";
                return Err(ConstraintError::unsupported(
                    format!("{at}/type"),
                    "a schema without type is not supported",
                    hint,
                ));
            }
            meant
        }
    };
    if let Some(other) = named.iter().find(|name| !TYPES.contains(name)) {
        return Err(ConstraintError::invalid(
            format!("{at}/type"),
            format!("{other:?} is no type; expected one of {}", TYPES.join(", ")),
        ));
    }
    if named.is_empty() {
        return Err(ConstraintError::invalid(format!("{at}/type"), "type is empty; expected at least one name"));
    }
    Ok(named)
}

fn keywords_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "object" => &["type", "properties", "required", "additionalProperties"],
        "array" => &["type", "items", "prefixItems", "minItems", "maxItems"],
        "string" => &["type", "minLength", "maxLength", "pattern", "format"],
        "integer" | "number" => &["type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
        _ => &["type"],
    }
}

fn names<'a>(schema: &'a Map<String, Value>, keyword: &str, at: &str) -> Result<Vec<&'a str>, ConstraintError> {
    let Some(listed) = schema.get(keyword) else { return Ok(Vec::new()) };
    let names = listed.as_array().map(|listed| listed.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    names.flatten().ok_or_else(|| wrong(at, keyword, listed, "an array of strings"))
}

fn sizes(
    schema: &Map<String, Value>,
    (least, most): (&str, &str),
    at: &str,
) -> Result<(u32, Option<u32>), ConstraintError> {
    let size = |keyword: &str| match schema.get(keyword) {
        None => Ok(None),
        Some(value) => {
            let whole = value.as_u64().and_then(|size| u32::try_from(size).ok());
            whole.map(Some).ok_or_else(|| wrong(at, keyword, value, "a whole number of at least 0"))
        }
    };
    let (low, high) = (size(least)?.unwrap_or(0), size(most)?);
    if high.is_some_and(|high| high < low) {
        return Err(ConstraintError::invalid(format!("{at}/{most}"), format!("{most} is less than {least}")));
    }
    Ok((low, high))
}

/// Refuses what is said beside a keyword that says all.
fn only(schema: &Map<String, Value>, at: &str, keyword: &str, allowed: &[&str]) -> Result<(), ConstraintError> {
    let mut others = schema.keys().filter(|other| !ANNOTATIONS.contains(&other.as_str()));
    match others.find(|other| !allowed.contains(&other.as_str())) {
        None => Ok(()),
        Some(other) => Err(beside(at, other, keyword)),
    }
}

fn beside(at: &str, keyword: &str, other: &str) -> ConstraintError {
    let message = format!("{keyword} beside {other} is not supported");
    ConstraintError::unsupported(format!("{at}/{}", escaped(keyword)), message, "say it in one of them")
}

fn unsupported(at: &str, keyword: &str) -> ConstraintError {
    ConstraintError::unsupported(
        format!("{at}/{}", escaped(keyword)),
        format!("the keyword {keyword:?} is not supported here"),
        "leave it out, or check it yourself in what comes back",
    )
}

fn wrong(at: &str, keyword: &str, value: &Value, expected: &str) -> ConstraintError {
    ConstraintError::invalid(format!("{at}/{}", escaped(keyword)), format!("{keyword} is {value}; expected {expected}"))
}

fn placed(error: ConstraintError, at: String) -> ConstraintError {
    match error {
        ConstraintError::Unsupported { message, hint, .. } => {
            ConstraintError::Unsupported { pointer: at, message, hint }
        }
        other => other,
    }
}

/// A name as part of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
