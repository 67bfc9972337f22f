"""What the reverse rules write on: new nodes and constants, and the shapes of the forward pass.

Several gradients are carried at once, S of them for each image: the gradient of a tensor of a
shape has shape [S, *shape]. Whatever the axes of a tensor mean, and wherever its batch is, a
forward value meets a gradient by broadcasting, as the axis of the gradients is in front.

A shape is that of the forward tensor; -1 stands for the axis that grows with the images.
"""

import math
from collections.abc import Mapping, Sequence
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
        cotangents: Gradients carried for each image, S.
        dtype: Float type of the graph.
    """

    def __init__(
        self,
        constants: Mapping[str, onnx.TensorProto],
        shapes: Mapping[str, Shape],
        cotangents: int,
        dtype: np.dtype[Any],
    ) -> None:
        """Begin an empty tape.

        Args:
            constants: Constants of the forward graph by name.
            shapes: Shape of every float tensor of the forward graph.
            cotangents: Gradients carried for each image.
            dtype: Float type of the graph.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.cotangents = cotangents
        self.dtype = dtype
        self._constants = constants
        self._shapes = shapes
        self._known: dict[tuple[bytes, Shape, str], str] = {}

    def shape(self, name: str) -> Shape:
        """Shape of a forward tensor.

        Raises:
            NoRule: If it is not known.
        """
        if name in self._constants:
            return tuple(self._constants[name].dims)
        shape = self._shapes.get(name)
        if shape is None:
            raise NoRule(f"{name!r} is no float tensor")
        if shape.count(-1) > 1:
            raise NoRule(f"several axes of {name!r} follow the batch")
        return shape

    def is_float(self, name: str) -> bool:
        """Whether a forward tensor that is no constant holds floats."""
        return name in self._shapes

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
        return self.constant(np.asarray(values, self.dtype))

    def as_float(self, condition: str) -> str:
        """A boolean tensor as 0 and 1."""
        return self.add("Cast", condition, to=helper.np_dtype_to_tensor_dtype(self.dtype))

    def reshape(self, tensor: str, shape: Shape) -> str:
        """A tensor in another shape, of which one axis may be -1."""
        return self.add("Reshape", tensor, self.integers(*shape))

    def restored(self, gradient: str, shape: Shape) -> str:
        """[...] -> [S, *shape]."""
        return self.reshape(gradient, (self.cotangents, *shape))

    def folded(self, gradient: str, shape: Shape) -> str:
        """[S, N, *rest] -> [S * N, *rest], for operators that take one batch axis."""
        return self.reshape(gradient, (-1, *shape[1:]))

    def sum_to(self, gradient: str, shape: Shape, wanted: Shape) -> str:
        """Undo the broadcasting of a tensor of shape ``wanted`` to ``shape``.

        Raises:
            NoRule: If it was broadcast along the batch.
        """
        before = (1,) * (len(shape) - len(wanted))
        pairs = enumerate(zip(shape, (*before, *wanted), strict=True))
        axes = [axis for axis, (size, own) in pairs if size != own]
        summed = self.sum_gradient(gradient, shape, axes)
        return self.restored(summed, wanted) if before else summed

    def sum_gradient(self, gradient: str, shape: Shape, axes: Sequence[int]) -> str:
        """Sum of [S, *shape] over axes of the shape, which stay with size 1."""
        return self.sum(gradient, (self.cotangents, *shape), [axis + 1 for axis in axes])

    def sum(self, tensor: str, shape: Shape, axes: Sequence[int]) -> str:
        """Sum over some axes, which stay with size 1.

        By a product with ones: ONNX Runtime's ReduceSum gives bits that depend on where in memory a
        row begins, so on the other images of its batch.

        Args:
            tensor: [*shape].
            shape: Its shape.
            axes: Which axes.

        Raises:
            NoRule: If the batch is one of them.
        """
        if not axes:
            return tensor
        if any(shape[axis] < 0 for axis in axes):
            raise NoRule("it works across the batch")
        order = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
        if order != sorted(order):
            tensor = self.add("Transpose", tensor, perm=order)
        count = math.prod(shape[axis] for axis in axes)
        total = self.add("MatMul", self.reshape(tensor, (-1, count)), self.floats([[1.0]] * count))
        return self.reshape(total, tuple(1 if i in axes else n for i, n in enumerate(shape)))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of a node's attribute, or the default."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def axis_of(node: onnx.NodeProto, default: int, shape: Shape) -> int:
    """A node's ``axis`` counted from the front.

    Args:
        node: The node.
        default: The operator's default.
        shape: Shape of the tensor that it works on.

    Raises:
        NoRule: If it is the batch axis.
    """
    axis = int(attribute(node, "axis", default)) % len(shape)
    if shape[axis] < 0:
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
