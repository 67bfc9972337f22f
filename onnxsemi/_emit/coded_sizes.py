"""Bytes that each semilayer takes in a file whose codes are entropy-coded, from the file alone.

A word counts where it begins. Its prefix takes as much as any other's; its suffix has the bits from
where it begins to where the next one does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnxsemi._arrays import Int64Array
from onnxsemi._errors import ModelError
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.outputs import only_outputs

_LOOK_UPS = ("Gather", "GatherElements")
_SIZES = re.compile(r"(q+)n_(\d+)")
_TOLD = re.compile(r"q+(\w*_\d+|[swtlevp])")
"""Names of initializers that say what they are: bits of codes, streams, tables."""
_WORDS_A_MILLISECOND = 7_000
"""That are decoded while a file loads, on one core (``benchmarks/entropy_coding.py``)."""


@dataclass(frozen=True)
class CodedSizes:
    """What is coded in a file.

    Attributes:
        streams: Names of the initializers that hold the words.
        of_output: Output of the node that divides what was decoded -> bytes of its words.
    """

    streams: tuple[str, ...] = ()
    of_output: Mapping[str, int] = field(default_factory=dict)


def is_told(name: str) -> bool:
    """Whether what reads a file back looks for an added initializer by its name."""
    return _TOLD.fullmatch(name) is not None


def coded_sizes(model: onnx.ModelProto, index: GraphIndex) -> CodedSizes:
    """Where the bytes of words are; nothing is coded in most files.

    Raises:
        ModelError: If the file was changed since it was written.
    """
    split = coded_split(index)
    if split is None:
        return CodedSizes()
    try:
        return _sizes(model, index, split, split.input[1].partition("n")[0])
    except (KeyError, ValueError, IndexError, StopIteration):
        raise ModelError(
            "its coded weights were changed since onnxsemi wrote it: not readable"
        ) from None


def coded_split(index: GraphIndex) -> onnx.NodeProto | None:
    """The node that divides what was decoded; None if nothing is coded."""
    splits = (node for _, node in index.nodes("Split") if bits_of_outputs(node) is not None)
    return next(splits, None)


def bits_of_outputs(split: onnx.NodeProto) -> list[int] | None:
    """Bitwidths of what is decoded together, from the name of its sizes; None of another node."""
    found = _SIZES.fullmatch(split.input[1]) if len(split.input) > 1 else None
    return None if found is None else list(map(int, found[2]))


def _sizes(
    model: onnx.ModelProto, index: GraphIndex, split: onnx.NodeProto, prefix: str
) -> CodedSizes:
    """Sizes of the outputs of a Split; the graph's added names begin with ``prefix``."""
    outputs = numpy_helper.to_array(index.constants[split.input[1]])
    begin, bits = _places(model, index, prefix, int(outputs.sum()))
    groups = next(n for n in index.constants if re.fullmatch(rf"{prefix}g_\d", n))
    streams = [groups, *(name for name in [f"{prefix}s"] if name in index.constants)]
    held = [len(index.constants[name].raw_data) for name in streams]
    first = np.searchsorted(begin, np.concatenate([[0], np.cumsum(outputs)]))
    suffixes = np.append(bits, 8 * sum(held[1:]))[first] / 8
    before = np.rint(held[0] * first / len(begin) + suffixes).astype(np.int64)
    each = dict(zip(split.output, np.diff(before).tolist(), strict=True))
    return CodedSizes(tuple(streams), each)


def _places(
    model: onnx.ModelProto, index: GraphIndex, prefix: str, symbols: int
) -> tuple[Int64Array, Int64Array]:
    """int64[words]: symbols before each word, and bits of suffixes before it."""
    sums = {}
    if f"{prefix}l" in index.constants:
        sums["l"] = _sums_of_lengths(index, f"{prefix}l")
    if f"{prefix}w" in index.constants:
        sums["w"] = _sums_of_widths(index, f"{prefix}w")
    part = only_outputs(model, sums.values())
    evaluated = ReferenceEvaluator(part, new_ops=[GatherElements]).run(None, {}) if sums else []
    known = dict(zip(sums, map(np.asarray, evaluated), strict=True))
    begin = known.get("l")
    if begin is None:  # words of one length
        begin = np.arange(0, symbols, index.constants[f"{prefix}v"].dims[-1])
    return begin, known.get("w", np.zeros_like(begin))


class GatherElements(OpRun):
    """As in ONNX; the one of ``onnx.reference`` takes tables of 64 rows at most (onnx 1.23)."""

    op_domain = ""

    def _run(self, data: NDArray[Any], indices: NDArray[Any], axis: int = 0) -> tuple[NDArray[Any]]:
        """[...], like the indices."""
        return (np.take_along_axis(data, indices, axis),)


def _sums_of_lengths(index: GraphIndex, table: str) -> str:
    """What is computed of the lengths of words."""
    for _, node in index.nodes("CumSum"):
        above = index.upstream(node.output)
        if any(table in index.graph.node[place].input for place in above):
            return str(node.output[0])
    raise KeyError(table)


def _sums_of_widths(index: GraphIndex, table: str) -> str:
    """What is computed of the widths of the groups that words are in."""
    (wide,) = (index.graph.node[place].output[0] for place in index.consumers[table])
    rows = {
        index.graph.node[place].output[0]
        for place in index.consumers[wide]
        if index.graph.node[place].input[0] == wide and index.graph.node[place].op_type in _LOOK_UPS
    }
    sums = (node for _, node in index.nodes("CumSum") if node.input[0] in rows)
    return str(next(sums).output[0])


@dataclass(frozen=True)
class Decoding:
    """What a runtime does once, while it loads a file whose codes are entropy-coded.

    Attributes:
        words: Number of coded words.
        bytes: Of all tensors that it makes on the way to float32 weights; ONNX Runtime, which folds
            them one by one, holds them all until the last is there.
        milliseconds: About what that adds to loading the float32 weights, in ONNX Runtime on one
            core of a server; what it takes elsewhere, ``bench`` measures.
    """

    words: int
    bytes: int
    milliseconds: int

    def to_json(self) -> str:
        """As it stands in the file."""
        return msgspec.json.encode(self).decode()


def decoding(model: onnx.ModelProto, index: GraphIndex) -> Decoding | None:
    """What a file takes to decode, by the shapes of its tensors; None if nothing is coded."""
    split = coded_split(index)
    if split is None:
        return None
    inferred = shape_inference.infer_shapes(model).graph.value_info
    types = {value.name: value.type.tensor_type for value in inferred}
    varying = index.downstream({value.name for value in model.graph.input} - index.constants.keys())
    made = [
        types[name]
        for place, node in enumerate(model.graph.node)
        if place not in varying
        for name in node.output
        if name in types
    ]
    prefix = split.input[1].partition("n")[0]
    symbols = int(numpy_helper.to_array(index.constants[split.input[1]]).sum())
    begin, _ = _places(model, index, prefix, symbols)
    words = len(begin)
    return Decoding(words, sum(map(_bytes, made)), ceil(words / _WORDS_A_MILLISECOND))


def _bytes(tensor: onnx.TypeProto.Tensor) -> int:
    width = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    return int(width * prod(size.dim_value for size in tensor.shape.dim))
