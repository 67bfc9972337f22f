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
_TAIL = ("Cast", "Sub", "Mul", "Reshape", "Transpose")


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


def unmatched(build: Builder, item: Waiting) -> None:
    """What is made of stored bytes goes through a Concat of one: see ``unmatched`` of layouts.

    Those see to it where a storage gives a constant at once; here it is known only now.
    """
    tensor, multiplied = item.tensor, False
    while len(tensor.outputs) == 1 and tensor.outputs[0].op in _TAIL:
        multiplied |= tensor.outputs[0].op == "Mul"
        (tensor,) = tensor.outputs[0].outputs
    if multiplied and all(size == 1 for size in item.quantized.codes.shape[2:]):
        values = build.variable(np.float32)
        tensor.inputs[0].outputs = [values]
        build.append("Concat", [values], [tensor], axis=0)


def replaced(tensor: gs.Variable, other: gs.Tensor) -> None:
    """Give all that take a tensor another one."""
    for node in list(tensor.outputs):
        for place, taken in enumerate(node.inputs):
            if taken is tensor:
                node.inputs[place] = other
