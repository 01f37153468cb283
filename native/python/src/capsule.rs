//! Arrow data across the `PyCapsule` interface: any producer in, any consumer out, no copy.
#![expect(unsafe_code, reason = "the C data interface moves structs by pointer")]

use std::ffi::CStr;

use arrow_array::cast::AsArray;
use arrow_array::ffi::FFI_ArrowArray;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchIterator};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, Schema};
use arrow_select::concat::concat;
use perfuse_arrow_storage::{import, import_stream, import_type};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyTuple};

use crate::error::{into_python, invalid};

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// The schema of an object with `__arrow_c_schema__`.
pub(crate) fn schema(object: &Bound<'_, PyAny>) -> PyResult<Schema> {
    let capsule = exported(object, "__arrow_c_schema__")?;
    let schema: FFI_ArrowSchema = {
        let pointer = checked(&capsule, SCHEMA)?;
        // SAFETY: a capsule of this name holds an initialised schema; moving it out leaves a released one behind.
        unsafe { FFI_ArrowSchema::from_raw(pointer.cast()) }
    };
    // SAFETY: the producer vouches for what the schema points to.
    unsafe { import_type(&schema) }.map_err(into_python)?;
    Schema::try_from(&schema).map_err(arrow)
}

/// The rows of an object with `__arrow_c_stream__` or `__arrow_c_array__`.
pub(crate) fn rows(object: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let array = array(object)?;
    match array.as_struct_opt() {
        Some(rows) if rows.null_count() == 0 => Ok(RecordBatch::from(rows)),
        Some(_) => Err(invalid("expected rows, came a struct array with null structs")),
        None => {
            Err(invalid(format!("expected rows (a table or record batch), came an array of {}", array.data_type())))
        }
    }
}

/// The array of an object with `__arrow_c_array__` or `__arrow_c_stream__`; a stream's chunks are joined.
pub(crate) fn array(object: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    if object.hasattr("__arrow_c_array__")? {
        let pair = object.call_method0("__arrow_c_array__")?.cast_into::<PyTuple>()?;
        let (schema, array) = pair.extract::<(Bound<'_, PyCapsule>, Bound<'_, PyCapsule>)>()?;
        let (schema, array) = (checked(&schema, SCHEMA)?, checked(&array, ARRAY)?);
        // SAFETY: capsules of these names hold initialised structs, moved out here; the producer vouches for what they
        // point to.
        unsafe {
            let schema = FFI_ArrowSchema::from_raw(schema.cast());
            import(FFI_ArrowArray::from_raw(array.cast()), &schema).map_err(into_python)
        }
    } else {
        let capsule = exported(object, "__arrow_c_stream__")?;
        let pointer = checked(&capsule, STREAM)?;
        // SAFETY: a capsule of this name holds an initialised stream, moved out here; the producer vouches for what it
        // hands over.
        let (kind, chunks) =
            unsafe { import_stream(FFI_ArrowArrayStream::from_raw(pointer.cast())) }.map_err(into_python)?;
        match chunks.as_slice() {
            [] => Ok(arrow_array::new_empty_array(&kind)),
            [only] => Ok(only.clone()),
            several => concat(&several.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(arrow),
        }
    }
}

fn exported<'py>(object: &Bound<'py, PyAny>, method: &str) -> PyResult<Bound<'py, PyCapsule>> {
    if !object.hasattr(method)? {
        let name = object.get_type().name()?;
        return Err(invalid(format!("expected an Arrow object (with {method}), came {name}")));
    }
    Ok(object.call_method0(method)?.cast_into::<PyCapsule>()?)
}

fn checked(capsule: &Bound<'_, PyCapsule>, name: &CStr) -> PyResult<*mut std::ffi::c_void> {
    Ok(capsule.pointer_checked(Some(name))?.as_ptr())
}

/// A capsule with the schema.
pub(crate) fn export_schema<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowSchema::try_from(schema).map_err(arrow)?, SCHEMA)
}

/// A capsule with the batches.
pub(crate) fn export<'py>(
    py: Python<'py>,
    schema: &arrow_schema::SchemaRef,
    batches: Vec<RecordBatch>,
) -> PyResult<Bound<'py, PyCapsule>> {
    let reader = RecordBatchIterator::new(batches.into_iter().map(Ok), schema.clone());
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), STREAM)
}

fn arrow(error: ArrowError) -> PyErr {
    invalid(error.to_string())
}
