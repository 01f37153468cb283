//! Keys, filter values and vectors that Python passes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, BinaryArray, Int64Array, StringArray};
use arrow_schema::DataType;
use perfuse_arrow_storage::{Key, Scalar, Where};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString};

use crate::capsule;
use crate::error::invalid;

pub(crate) fn key(object: &Bound<'_, PyAny>) -> PyResult<Key> {
    if let Ok(text) = object.cast::<PyString>() {
        Ok(Key::Text(text.extract::<String>()?.into()))
    } else if object.is_instance_of::<PyInt>() && !object.is_instance_of::<PyBool>() {
        Ok(Key::Int(object.extract().map_err(|_| invalid("expected a key that fits into int64"))?))
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Ok(Key::Bytes(bytes.as_bytes().into()))
    } else {
        Err(invalid(format!("expected a key of str, int or bytes, came {}", object.get_type().name()?)))
    }
}

/// Keys of one kind as an Arrow array.
pub(crate) fn keys(object: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let keys = object.try_iter()?.map(|item| key(&item?)).collect::<PyResult<Vec<_>>>()?;
    let array: Option<ArrayRef> = match keys.first() {
        None => return Err(invalid("expected at least one key, came none")),
        Some(Key::Int(_)) => {
            let values = keys.iter().map(|key| if let Key::Int(key) = key { Some(*key) } else { None });
            values.collect::<Option<Vec<_>>>().map(|values| Arc::new(Int64Array::from(values)) as ArrayRef)
        }
        Some(Key::Text(_)) => {
            let values = keys.iter().map(|key| if let Key::Text(key) = key { Some(key.as_ref()) } else { None });
            values.collect::<Option<Vec<&str>>>().map(|values| Arc::new(StringArray::from(values)) as ArrayRef)
        }
        Some(Key::Bytes(_)) => {
            let values = keys.iter().map(|key| if let Key::Bytes(key) = key { Some(key.as_ref()) } else { None });
            values.collect::<Option<Vec<&[u8]>>>().map(|values| Arc::new(BinaryArray::from(values)) as ArrayRef)
        }
    };
    array.ok_or_else(|| invalid("expected keys of one type, came several"))
}

/// `{"column": value, …}`; `None` filters nothing.
pub(crate) fn filter(object: Option<&Bound<'_, PyDict>>) -> PyResult<Where> {
    let Some(wanted) = object else { return Ok(Vec::new()) };
    wanted.iter().map(|(column, value)| Ok((column.extract::<String>()?, scalar(&value)?))).collect()
}

fn scalar(object: &Bound<'_, PyAny>) -> PyResult<Scalar> {
    Ok(if object.is_none() {
        Scalar::Null
    } else if object.is_instance_of::<PyBool>() {
        Scalar::Bool(object.extract()?)
    } else if object.is_instance_of::<PyInt>() {
        Scalar::Int(object.extract().map_err(|_| invalid("expected a filter value that fits into int64"))?)
    } else if object.is_instance_of::<PyFloat>() {
        Scalar::Float(object.extract()?)
    } else if object.is_instance_of::<PyString>() {
        Scalar::Text(object.extract()?)
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Scalar::Bytes(bytes.as_bytes().to_vec())
    } else {
        let name = object.get_type().name()?;
        return Err(invalid(format!("expected a filter value of None, bool, int, float, str or bytes, came {name}")));
    })
}

/// Row-major float32 vectors and their width: an Arrow array of fixed-size lists, or a buffer of one or two dimensions.
pub(crate) fn vectors(object: &Bound<'_, PyAny>) -> PyResult<(Vec<f32>, usize)> {
    if object.hasattr("__arrow_c_array__")? || object.hasattr("__arrow_c_stream__")? {
        return arrow_vectors(capsule::array(object)?.as_ref());
    }
    let buffer = PyBuffer::<f32>::get(object).map_err(|error| {
        invalid(format!("expected vectors as an Arrow array or a float32 buffer: {}", error.value(object.py())))
    })?;
    match *buffer.shape() {
        [width] | [_, width] if width > 0 => Ok((buffer.to_vec(object.py())?, width)),
        ref shape => Err(invalid(format!("expected vectors of shape (width,) or (rows, width), came {shape:?}"))),
    }
}

fn arrow_vectors(array: &dyn Array) -> PyResult<(Vec<f32>, usize)> {
    if let Some(lists) = array.as_fixed_size_list_opt()
        && let Some(floats) = lists.values().as_primitive_opt::<Float32Type>()
        && lists.null_count() == 0
        && floats.null_count() == 0
        && lists.value_length() > 0
    {
        let width = lists.value_length().cast_unsigned() as usize;
        return Ok((floats.values().to_vec(), width));
    }
    let kind: &DataType = array.data_type();
    Err(invalid(format!("expected vectors as fixed-size lists of float without null, came {kind}")))
}
