"""What the reverse rules write on: new nodes and constants, and the shapes of the forward pass.

Several gradients are carried at once. For N images and S seeds an image, the gradient of a tensor
of shape [N, *row] has shape [N * S, *row]; its rows are grouped by image. Linear operators treat
these rows like any other batch. Where a gradient meets a forward value, it is unfolded to
[N, S, *row] and the value lifted to [N, 1, *row].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Shape = tuple[int, ...]


class NoRule(Exception):  # noqa: N818  an answer, not a failure
    """An operator, or the way in which it is used here, has no reverse rule."""


class Tape:
    """The backward graph under construction.

    Attributes:
        nodes: New nodes in topological order.
        initializers: New constants.
        seeds: Gradients carried for each image, S.
    """

    def __init__(
        self,
        constants: Mapping[str, onnx.TensorProto],
        shapes: Mapping[str, Shape],
        seeds: int,
        dtype: np.dtype[Any],
    ) -> None:
        """Begin an empty tape.

        Args:
            constants: Constants of the forward graph by name.
            shapes: Shape of one row (the batch axis left out) of every float tensor of the forward
                graph whose first axis is the batch.
            seeds: Gradients carried for each image.
            dtype: Float type of the graph.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.seeds = seeds
        self._constants = constants
        self._shapes = shapes
        self._dtype = dtype
        self._known: dict[tuple[bytes, Shape, str], str] = {}

    def shape(self, name: str) -> Shape:
        """Shape of one row of a forward tensor.

        Raises:
            NoRule: If the first axis of the tensor is not the batch.
        """
        if name not in self._shapes:
            raise NoRule(f"the first axis of {name!r} is not the batch")
        return self._shapes[name]

    def is_constant(self, name: str) -> bool:
        """Whether a forward tensor is a constant."""
        return name in self._constants

    def value(self, name: str) -> NDArray[Any]:
        """Value of a constant of the forward graph.

        Raises:
            NoRule: If it is computed at run time.
        """
        if name not in self._constants:
            raise NoRule(f"{name!r} is computed at run time")
        return numpy_helper.to_array(self._constants[name])

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; gives the output's name."""
        output = f"backward/{len(self.nodes)}"
        # named: ONNX Runtime 1.19 fuses nodes without a name into nodes of the same name
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], output, **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        """Name of a new constant; equal ones are stored once."""
        values = np.asarray(values, order="C")
        key = (values.tobytes(), values.shape, str(values.dtype))
        if key not in self._known:
            self._known[key] = f"backward/constant_{len(self.initializers)}"
            self.initializers.append(numpy_helper.from_array(values, self._known[key]))
        return self._known[key]

    def integers(self, *values: int) -> str:
        """Name of an int64[len(values)] constant."""
        return self.constant(np.array(values, np.int64))

    def floats(self, values: Any) -> str:
        """Name of a constant of the graph's float type."""
        return self.constant(np.asarray(values, self._dtype))

    def as_float(self, condition: str) -> str:
        """A boolean tensor as 0 and 1."""
        return self.add("Cast", condition, to=helper.np_dtype_to_tensor_dtype(self._dtype))

    def reshape(self, tensor: str, row: Shape) -> str:
        """[rows, ...] or [N, S, ...] -> [rows, *row]."""
        return self.add("Reshape", tensor, self.integers(-1, *row))

    def unfold(self, gradient: str, row: Shape) -> str:
        """[N * S, *row] -> [N, S, *row]."""
        return self.add("Reshape", gradient, self.integers(-1, self.seeds, *row))

    def lift(self, forward: str) -> str:
        """[N, *row] -> [N, 1, *row]."""
        return self.add("Unsqueeze", forward, self.integers(1))

    def scale(self, gradient: str, factor: str, row: Shape) -> str:
        """Gradient times a factor made of forward values.

        Args:
            gradient: [N * S, *row].
            factor: [N, ...], broadcast over a row.
            row: Shape of one row of the gradient.
        """
        if self.seeds == 1:
            return self.add("Mul", gradient, factor)
        return self.reshape(self.add("Mul", self.unfold(gradient, row), self.lift(factor)), row)

    def sum_to(self, gradient: str, row: Shape, wanted: Shape) -> str:
        """Undo the broadcasting of a row of shape ``wanted`` to ``row``.

        Raises:
            NoRule: If the numbers of axes differ, so that the batch axes did not meet.
        """
        if len(row) != len(wanted):
            raise NoRule("its operands have different numbers of axes")
        axes = [i + 1 for i, (a, b) in enumerate(zip(row, wanted, strict=True)) if a != b]
        if not axes:
            return gradient
        return self.sum(gradient, row, axes)

    def sum(self, gradient: str, row: Shape, axes: list[int]) -> str:
        """Sum over some axes, which stay with size 1.

        By a product with ones: ONNX Runtime's ReduceSum gives bits that depend on where in memory a
        row begins, so on the other images of its batch.

        Args:
            gradient: [rows, *row].
            row: Shape of one row.
            axes: Axes counted with the batch axis, which is 0.
        """
        kept = [axis for axis in range(1, len(row) + 1) if axis not in axes]
        order = [0, *kept, *axes]
        if order != sorted(order):
            gradient = self.add("Transpose", gradient, perm=order)
        sizes = [row[axis - 1] for axis in axes]
        count = int(np.prod(sizes))
        flat = self.reshape(gradient, (int(np.prod([row[axis - 1] for axis in kept])), count))
        total = self.add("MatMul", flat, self.floats(np.ones((count, 1))))
        shape = tuple(1 if axis in axes else row[axis - 1] for axis in range(1, len(row) + 1))
        return self.reshape(total, shape)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of a node's attribute, or the default."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def axis_of(node: onnx.NodeProto, default: int, axes: int) -> int:
    """A node's ``axis`` counted from the front.

    Args:
        node: The node.
        default: The operator's default.
        axes: Number of axes, the batch included.

    Raises:
        NoRule: If it is the batch axis.
    """
    axis = int(attribute(node, "axis", default)) % axes
    if axis == 0:
        raise NoRule("it works across the batch")
    return axis


def given(node: onnx.NodeProto, place: int) -> str:
    """Name of an optional input; empty if it is left out."""
    return node.input[place] if len(node.input) > place else ""


def only(place: int, allowed: int = 0) -> None:
    """Refuse the gradient of any other input.

    Raises:
        NoRule: If ``place`` is not the allowed one.
    """
    if place != allowed:
        raise NoRule("a weight or parameter that is computed at run time")
