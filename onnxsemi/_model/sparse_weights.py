"""Sparse initializers -> dense ones of the same values: the same function, and weights to round."""

import numpy as np
import onnx
from onnx import SparseTensorProto, TensorProto, numpy_helper

from onnxsemi._errors import ModelError


def densify(model: onnx.ModelProto) -> None:
    """Replace the sparse initializers of a model in place.

    Raises:
        ModelError: If indices of one do not fit its shape.
    """
    graph = model.graph
    graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
    del graph.sparse_initializer[:]


def _dense(sparse: SparseTensorProto) -> TensorProto:
    """A tensor of zeros but for the values (ONNX IR: indices are [M], linear, or [M, rank])."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    try:
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
    except (IndexError, ValueError):
        name, dims = sparse.values.name, list(sparse.dims)
        raise ModelError(f"sparse initializer {name!r}: indices do not fit shape {dims}") from None
    return numpy_helper.from_array(dense, sparse.values.name)
