"""What a graph computes from sizes alone, written down where it is one value for any batch.

Exporters write out sizes that they could know: Shape, Gather and Div for half of the channels that
a Slice takes; and places of values in memory that stay where they are: a Gather from the flattened
tensor whose indices are 0, 1, 2, ... (PyTorch's ``as_strided``). As the reverse rules go by
constants, the model is run on one image and on two: what is equal becomes a constant, and a Gather
of all values in their order a Reshape.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxsemi._model.head import ImageInput
from onnxsemi._model.index import GraphIndex, shape_nodes
from onnxsemi._model.inference import inferred
from onnxsemi._runtime.sessions import Session

Values = Mapping[str, NDArray[Any]]


def settle_sizes(model: onnx.ModelProto, source: ImageInput, image: tuple[int, ...]) -> None:
    """Write down the sizes of a model, in place.

    Args:
        model: The model, nodes in topological order, constants among its initializers.
        source: Its input.
        image: Shape of one image in the model's layout.
    """
    graph, index = model.graph, GraphIndex.of(model.graph)
    places = sorted(shape_nodes(index))
    names = [name for place in places for name in graph.node[place].output]
    if not names:
        return
    moves = [node for _, node in index.nodes("Gather") if node.input[1] in names]
    runs = _runs(model, [*names, *(node.input[0] for node in moves)], source, image)
    for node in moves:
        if all(_in_order(node, run) for run in runs):
            _become_reshape(graph, node)
    same = {name for name in names if _equal([run.get(name) for run in runs])}
    settled = [graph.node[place] for place in places if same.issuperset(graph.node[place].output)]
    for node in settled:
        graph.initializer.extend(numpy_helper.from_array(runs[0][n], n) for n in node.output)
        graph.node.remove(node)


def _runs(
    model: onnx.ModelProto, names: Sequence[str], source: ImageInput, image: tuple[int, ...]
) -> list[Values]:
    """Values of tensors for one image and for two; of a fixed batch for that. None of no type."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    known = inferred(model)
    types = {v.name: v.type.tensor_type.elem_type for v in (*known.value_info, *known.output)}
    there = [name for name in dict.fromkeys(names) if types.get(name)]
    del exposed.graph.output[:]
    exposed.graph.output.extend(
        helper.make_tensor_value_info(name, types[name], None) for name in there
    )
    session = Session(exposed.SerializeToString(), optimize=False)
    batches = (source.batch,) if source.batch else (1, 2)
    return [session.run({source.name: np.zeros((batch, *image), np.float32)}) for batch in batches]


def _in_order(node: onnx.NodeProto, run: Values) -> bool:
    """Whether a Gather takes every value of a flat tensor, in their order."""
    data, indices = (run.get(name) for name in node.input)
    return (
        data is not None
        and indices is not None
        and data.ndim == 1
        and np.array_equal(indices.ravel(), np.arange(data.size))
    )


def _become_reshape(graph: onnx.GraphProto, gather: onnx.NodeProto) -> None:
    size = f"onnxsemi/size of {gather.output[0]}"
    place = next(i for i, node in enumerate(graph.node) if node.output[:1] == gather.output[:1])
    graph.node.insert(place, helper.make_node("Shape", [gather.input[1]], [size], size))
    gather.op_type, gather.input[1] = "Reshape", size
    del gather.attribute[:]


def _equal(values: Sequence[NDArray[Any] | None]) -> bool:
    first = values[0]
    return first is not None and all(
        v is not None and v.shape == first.shape and np.array_equal(v, first) for v in values
    )
