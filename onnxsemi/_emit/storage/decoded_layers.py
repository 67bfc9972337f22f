"""Layers of what was decoded, with as few nodes as they can do with.

Layouts put a layer together from its semilayers before it is known which of them are coded
together; what that leaves to shorten is shortened here.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage.planes import Waiting

_BETWEEN = ("Concat", "Gather", "Reshape", "Transpose")


def reshaped(build: Builder, placed: Sequence[tuple[Waiting, gs.Variable]]) -> None:
    """Give semilayers their shapes; those that one Concat joins are joined flat, and shaped once.

    Args:
        build: Adds to the graph.
        placed: Semilayers, each with its flat codes.
    """
    flat = {id(item.tensor): piece for item, piece in placed}
    joined = set()
    for item, piece in placed:
        shape = build.integers(-1, *item.quantized.codes.shape[1:])
        users = [node for node in item.tensor.outputs if node.op == "Concat"]
        if len(users) != 1 or any(id(taken) not in flat for taken in users[0].inputs):
            build.append("Reshape", [piece, shape], [item.tensor])
        elif id(users[0]) not in joined:
            joined.add(id(users[0]))
            whole = users[0].outputs[0]
            users[0].inputs = [flat[id(taken)] for taken in users[0].inputs]
            users[0].outputs = [build.variable(piece.dtype)]
            build.append("Reshape", [users[0].outputs[0], shape], [whole])


def cast_early(build: Builder, every: gs.Variable, tensors: Sequence[gs.Variable]) -> gs.Variable:
    """All codes as float32, if that is what becomes of each; else as they are.

    Args:
        build: Adds to the graph.
        every: The codes.
        tensors: What layers take of them.
    """
    casts = [_cast_of(tensor) for tensor in tensors]
    if any(cast is None for cast in casts):
        return every
    for cast in casts:
        if cast is not None and cast.outputs:
            replaced(cast.outputs[0], cast.inputs[0])
            cast.outputs.clear()
    return build.cast(every, np.float32)


def _cast_of(tensor: gs.Variable) -> gs.Node | None:
    """The Cast that a tensor comes to through what rearranges it alone."""
    while len(tensor.outputs) == 1:
        (user,) = tensor.outputs
        if user.op == "Cast":
            return user
        if user.op not in _BETWEEN:
            return None
        (tensor,) = user.outputs
    return None


def replaced(tensor: gs.Variable, other: gs.Tensor) -> None:
    """Give all that take a tensor another one."""
    for node in list(tensor.outputs):
        for place, taken in enumerate(node.inputs):
            if taken is tensor:
                node.inputs[place] = other
