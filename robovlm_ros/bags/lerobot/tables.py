"""Arrays as the columns of parquet files, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError

MIB = 1 << 20


def load_pyarrow() -> Any:
    """The package with its ``parquet``; UserError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("LeRobot data sets need the package pyarrow (pip install 'robovlm_ros[lerobot]')") from error
    return pyarrow


def column(values: NDArray[Any], dtype: str) -> Any:
    """(n,) values, or (n, d) as lists of fixed length; a length of 1 is a plain value, as LeRobot has it."""
    pyarrow = load_pyarrow()
    values = np.asarray(values, np.dtype(dtype))
    kind = pyarrow.from_numpy_dtype(values.dtype)
    if values.ndim == 1 or values.shape[1] == 1:
        return pyarrow.array(values.ravel(), kind)
    flat = pyarrow.array(np.ascontiguousarray(values).ravel(), kind)
    return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])


def to_array(found: Any, dtype: str, length: int) -> NDArray[Any]:
    """A column of a table as (n,) values for a length of 1, else (n, length); UserError if it is something else."""
    pyarrow = load_pyarrow()
    chunked = found.combine_chunks()
    array = chunked.chunk(0) if isinstance(chunked, pyarrow.ChunkedArray) and chunked.num_chunks else chunked
    if pyarrow.types.is_nested(array.type):
        array = array.flatten()
        if pyarrow.types.is_nested(array.type):
            raise UserError("values of more than one dimension cannot be read")
    values = np.asarray(array.to_numpy(zero_copy_only=False), np.dtype(dtype))
    if length != 1 and len(values) != length * len(found):
        raise UserError(f"{len(values)} numbers in {len(found)} rows are not {length} in each")
    return values if length == 1 else values.reshape(len(found), length)


def read_column(files: Sequence[Path], name: str) -> NDArray[Any]:
    """(n,) or (n, d) values of a column in all files, one after the other."""
    pyarrow = load_pyarrow()
    found = []
    for file in files:
        one = pyarrow.parquet.read_table(file, columns=[name]).column(0)
        kind = one.type
        length = kind.list_size if pyarrow.types.is_fixed_size_list(kind) else 1
        inner = kind.value_type if pyarrow.types.is_nested(kind) else kind
        found.append(to_array(one, str(inner.to_pandas_dtype()().dtype), length))
    return np.concatenate(found)


def task_table(tasks: Sequence[str]) -> Any:
    """Task → number, with the text as the index of the table that pandas makes of the file."""
    pyarrow = load_pyarrow()
    table = pyarrow.table({"task_index": np.arange(len(tasks)), "task": pyarrow.array(tasks, pyarrow.string())})
    names = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    described = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in names
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": described, "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
