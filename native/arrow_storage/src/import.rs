//! Arrow data of another producer across the C data interface, checked as far as its structs tell.
//!
//! arrow-rs asserts the counts of buffers and children, trusts lengths and offsets, and makes arrays before they are
//! validated; so the structs are checked first, and the data before an array is made of it.
#![expect(unsafe_code, reason = "the C data interface moves structs by pointer")]

use std::ffi::{CStr, c_char, c_int, c_void};

use arrow_array::ffi::{FFI_ArrowArray, from_ffi_and_data_type};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, make_array};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType, FieldRef};

use crate::error::{Error, Result};

/// Most rows of one array.
const ROWS: usize = i32::MAX as usize;
/// More bytes than any buffer has.
const BYTES: usize = 1 << 48;
/// Most types inside each other.
const DEPTH: usize = 32;

/// `ArrowSchema` of the C data interface, whose fields arrow-rs keeps to itself.
#[repr(C)]
pub(crate) struct RawSchema {
    pub(crate) format: *const c_char,
    pub(crate) name: *const c_char,
    pub(crate) metadata: *const c_char,
    pub(crate) flags: i64,
    pub(crate) n_children: i64,
    pub(crate) children: *const *const RawSchema,
    pub(crate) dictionary: *const RawSchema,
    pub(crate) release: Option<unsafe extern "C" fn(*mut RawSchema)>,
    pub(crate) private_data: *mut c_void,
}

/// `ArrowArray` of the C data interface.
#[repr(C)]
pub(crate) struct RawArray {
    pub(crate) length: i64,
    pub(crate) null_count: i64,
    pub(crate) offset: i64,
    pub(crate) n_buffers: i64,
    pub(crate) n_children: i64,
    pub(crate) buffers: *const *const c_void,
    pub(crate) children: *const *const RawArray,
    pub(crate) dictionary: *const RawArray,
    pub(crate) release: Option<unsafe extern "C" fn(*mut RawArray)>,
    pub(crate) private_data: *mut c_void,
}

/// `ArrowArrayStream` of the C data interface.
#[repr(C)]
struct RawStream {
    get_schema: Option<unsafe extern "C" fn(*mut RawStream, *mut FFI_ArrowSchema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut RawStream, *mut FFI_ArrowArray) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut RawStream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut RawStream)>,
    private_data: *mut c_void,
}

/// The type a schema says.
///
/// # Safety
/// Pointers in the struct are null or valid, its strings end, and its metadata are as long as they say.
pub unsafe fn import_type(schema: &FFI_ArrowSchema) -> Result<DataType> {
    // SAFETY: both are the struct of the C data interface; the caller vouches for what it points to.
    unsafe { check_schema(&*std::ptr::from_ref(schema).cast::<RawSchema>(), DEPTH)? };
    DataType::try_from(schema).map_err(|error| Error::Invalid(error.to_string()))
}

/// The array of a schema and an array that a producer handed over.
///
/// # Safety
/// Pointers in the structs are null or valid, strings end, and a buffer holds at least what length, offset and the last
/// of its offsets say.
pub unsafe fn import(array: FFI_ArrowArray, schema: &FFI_ArrowSchema) -> Result<ArrayRef> {
    // SAFETY: the caller vouches for the schema.
    let kind = unsafe { import_type(schema)? };
    // SAFETY: the caller vouches for the array.
    unsafe { import_as(array, &kind) }
}

/// The arrays of a stream and their type.
///
/// # Safety
/// The stream is not released, and what it hands over is as [`import`] needs it.
pub unsafe fn import_stream(mut stream: FFI_ArrowArrayStream) -> Result<(DataType, Vec<ArrayRef>)> {
    let raw = (&raw mut stream).cast::<RawStream>();
    // SAFETY: both are the struct of the C data interface.
    let callbacks = unsafe { ((*raw).get_schema, (*raw).get_next, (*raw).release) };
    let (Some(get_schema), Some(get_next), Some(_)) = callbacks else { return odd("", "a stream is released") };
    let mut schema = FFI_ArrowSchema::empty();
    // SAFETY: the callback fills in the schema.
    let code = unsafe { get_schema(raw, &raw mut schema) };
    // SAFETY: the stream is not released.
    unsafe { succeeded(raw, code)? };
    // SAFETY: the caller vouches for the schema.
    let kind = unsafe { import_type(&schema)? };
    let mut arrays = Vec::new();
    loop {
        let mut array = FFI_ArrowArray::empty();
        // SAFETY: the callback fills in the array.
        let code = unsafe { get_next(raw, &raw mut array) };
        // SAFETY: the stream is not released.
        unsafe { succeeded(raw, code)? };
        if array.is_released() {
            return Ok((kind, arrays));
        }
        // SAFETY: the caller vouches for the array.
        arrays.push(unsafe { import_as(array, &kind)? });
    }
}

unsafe fn succeeded(stream: *mut RawStream, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the stream is not released, and its message, where there is one, ends.
    let message = unsafe {
        let message = (*stream).get_last_error.map_or(std::ptr::null(), |get| get(stream));
        if message.is_null() { "".into() } else { CStr::from_ptr(message).to_string_lossy() }
    };
    Err(Error::Invalid(format!("the producer of the stream failed with code {code}: {message}")))
}

unsafe fn import_as(array: FFI_ArrowArray, kind: &DataType) -> Result<ArrayRef> {
    let arrow = |error: ArrowError| Error::Invalid(error.to_string());
    // SAFETY: both are the struct of the C data interface; the caller vouches for what it points to.
    unsafe { check_array(&*std::ptr::from_ref(&array).cast::<RawArray>(), "", kind)? };
    // SAFETY: the array has the buffers and children that its type needs.
    let data = unsafe { from_ffi_and_data_type(array, kind.clone()) }.map_err(arrow)?;
    data.validate_full().map_err(arrow)?;
    Ok(make_array(data))
}

unsafe fn check_schema(schema: &RawSchema, depth: usize) -> Result<()> {
    if depth == 0 {
        return odd("", &format!("expected at most {DEPTH} types inside each other"));
    }
    // SAFETY: a string that is there ends.
    let text = |text: *const c_char| unsafe { (!text.is_null()).then(|| CStr::from_ptr(text).to_str()) };
    let (Some(Ok(format)), None | Some(Ok(_))) = (text(schema.format), text(schema.name)) else {
        return odd("", "a schema has no format, or one or a name that is not UTF-8");
    };
    let expected = match format {
        "+r" => 2,
        _ if format == "+s" || format.starts_with("+u") => usize::try_from(schema.n_children).unwrap_or_default(),
        _ => usize::from(format.starts_with('+')),
    };
    // SAFETY: the caller vouches for the children.
    let (children, dictionary) =
        unsafe { (children(schema.children, schema.n_children, expected)?, schema.dictionary.as_ref()) };
    // SAFETY: the caller vouches for the children.
    children.into_iter().chain(dictionary).try_for_each(|child| unsafe { check_schema(child, depth - 1) })
}

/// Checks that an array has the parts that arrow-rs takes for granted.
unsafe fn check_array(array: &RawArray, name: &str, kind: &DataType) -> Result<()> {
    let (buffers, fields): (_, Vec<&FieldRef>) = match kind {
        DataType::Struct(fields) => (1, fields.iter().collect()),
        DataType::List(item) => (2, vec![item]),
        DataType::FixedSizeList(item, 0..) => (1, vec![item]),
        DataType::Utf8 | DataType::Binary => (3, vec![]),
        DataType::Boolean | DataType::FixedSizeBinary(0..) => (2, vec![]),
        other if other.is_primitive() => (2, vec![]),
        other => return odd(name, &format!("a table cannot hold {other}")),
    };
    let rows = match [array.length, array.offset].map(usize::try_from) {
        [Ok(length @ 0..=ROWS), Ok(offset @ 0..=ROWS)] if length + offset <= ROWS => length + offset,
        _ => return odd(name, &format!("expected at most {ROWS} rows, came {} behind {}", array.length, array.offset)),
    };
    if matches!(kind, DataType::FixedSizeBinary(width) if rows * width.cast_unsigned() as usize > BYTES) {
        return odd(name, &format!("expected at most {BYTES} bytes, came {rows} rows of {kind}"));
    }
    if array.n_buffers != buffers || array.buffers.is_null() || !array.dictionary.is_null() {
        return odd(name, &format!("expected {buffers} buffers of an array of {kind}, came {}", array.n_buffers));
    }
    if rows > 0 && matches!(kind, DataType::Utf8 | DataType::Binary | DataType::List(_)) {
        // SAFETY: there are at least two buffers.
        let offsets = unsafe { (*array.buffers.add(1)).cast::<i32>() };
        // SAFETY: a buffer of offsets holds one more than there are rows.
        if !offsets.is_aligned() || offsets.is_null() || unsafe { *offsets.add(rows) } < 0 {
            return odd(name, &format!("the offsets of an array of {kind} are absent, not aligned or negative"));
        }
    }
    // SAFETY: the caller vouches for the children.
    let children = unsafe { children(array.children, array.n_children, fields.len())? };
    // SAFETY: the caller vouches for the children.
    children
        .iter()
        .zip(fields)
        .try_for_each(|(child, field)| unsafe { check_array(child, field.name(), field.data_type()) })
}

/// What an array of `count` pointers points to.
unsafe fn children<'a, T>(pointers: *const *const T, count: i64, expected: usize) -> Result<Vec<&'a T>> {
    if usize::try_from(count) != Ok(expected) || count > 0 && pointers.is_null() {
        return odd("", &format!("expected {expected} children, came {count}"));
    }
    // SAFETY: the caller vouches for the pointers.
    let child = |index| unsafe { (*pointers.add(index)).as_ref() };
    (0..expected)
        .map(child)
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Invalid("Arrow array \"\": a child is absent".into()))
}

fn odd<T>(name: &str, what: &str) -> Result<T> {
    Err(Error::Invalid(format!("Arrow array {name:?}: {what}")))
}

#[cfg(test)]
mod tests {
    use std::ptr::from_mut;
    use std::sync::Arc;

    use arrow_array::{Array, Int64Array, StringArray, StructArray};
    use arrow_schema::Field;

    use super::*;

    /// What is said of two rows, `id` and `text`, of which `change` makes something else.
    fn imported(change: impl FnOnce(&mut RawArray, [&mut RawArray; 2])) -> String {
        let column = |name: &str, kind| Arc::new(Field::new(name, kind, false));
        let rows = StructArray::from(vec![
            (column("id", DataType::Int64), Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            (column("text", DataType::Utf8), Arc::new(StringArray::from(vec!["a", "b"]))),
        ]);
        let (mut array, schema) = arrow_array::ffi::to_ffi(&rows.to_data()).expect("exported");
        // SAFETY: both are the struct of the C data interface, and nobody else looks at them.
        unsafe {
            let raw = &mut *from_mut(&mut array).cast::<RawArray>();
            let child = |index| &mut *(*raw.children.add(index)).cast_mut();
            change(&mut *from_mut(&mut array).cast(), [child(0), child(1)]);
        }
        // SAFETY: nothing says that a buffer is longer than it is.
        let imported = unsafe { import(array, &schema) };
        imported.map_or_else(|error| error.to_string(), |array| format!("{} rows", array.len()))
    }

    #[test]
    fn rows_whose_parts_do_not_fit_are_refused() {
        assert_eq!(imported(|_, _| {}), "2 rows");
        assert_eq!(imported(|rows, _| rows.n_children = 1), "Arrow array \"\": expected 2 children, came 1");
        assert_eq!(
            imported(|rows, _| rows.children = std::ptr::null()),
            "Arrow array \"\": expected 2 children, came 2"
        );
        assert_eq!(
            imported(|_, [_, text]| text.n_buffers = 2),
            "Arrow array \"text\": expected 3 buffers of an array of Utf8, came 2"
        );
        assert_eq!(
            imported(|_, [id, _]| id.length = -1),
            "Arrow array \"id\": expected at most 2147483647 rows, came -1 behind 0"
        );
        assert_eq!(
            imported(|_, [id, _]| id.offset = i64::MAX),
            "Arrow array \"id\": expected at most 2147483647 rows, came 2 behind 9223372036854775807"
        );
        assert_eq!(
            imported(|_, [id, _]| id.length = 1),
            "Invalid argument error: Struct(\"id\": non-null Int64, \"text\": non-null Utf8) child array #0 for field id has \
             length smaller than expected for struct array (1 < 2)"
        );
    }
}
