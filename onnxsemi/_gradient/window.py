"""Sliding windows: how Conv, ConvTranspose and the pools cover their input, axis by axis.

covered = (out - 1) * stride + dilation * (kernel - 1) + 1          cells, padding included
begin + input + end  >=  covered                                    what is left over is unused
"""

from dataclasses import dataclass

import numpy as np
import onnx

from onnxsemi._arrays import Float64Array
from onnxsemi._gradient.tape import NoRule, Shape, attribute


@dataclass(frozen=True)
class Window:
    """Geometry of one node, a value for each spatial axis.

    Attributes:
        kernel: Cells of the kernel.
        strides: Steps between windows.
        dilations: Steps between the cells of the kernel.
        begins: Padding in front.
        ends: Padding behind.
        inputs: Size of the input.
        outputs: Size of the output.
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    begins: Shape
    ends: Shape
    inputs: Shape
    outputs: Shape

    @classmethod
    def of(cls, node: onnx.NodeProto, kernel: Shape, inputs: Shape, outputs: Shape) -> "Window":
        """Window of a Conv or pool node (ONNX Conv, opset 11).

        Args:
            node: The node.
            kernel: Cells of its kernel.
            inputs: Spatial size of its input.
            outputs: Spatial size of its output.
        """
        axes = len(kernel)
        strides = tuple(attribute(node, "strides", [1] * axes))
        dilations = tuple(attribute(node, "dilations", [1] * axes))
        pads = tuple(attribute(node, "pads", [0] * (2 * axes)))
        automatic = attribute(node, "auto_pad", b"NOTSET")
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            covered = _covered(kernel, strides, dilations, outputs)
            needed = [max(c - i, 0) for c, i in zip(covered, inputs, strict=True)]
            less, more = [n // 2 for n in needed], [n - n // 2 for n in needed]
            pads = (*less, *more) if automatic == b"SAME_UPPER" else (*more, *less)
        elif automatic == b"VALID":
            pads = (0,) * (2 * axes)
        return cls(kernel, strides, dilations, pads[:axes], pads[axes:], inputs, outputs)

    @property
    def leftover(self) -> Shape:
        """Padded input minus what the windows cover; below 0 where the last one sticks out."""
        covered = _covered(self.kernel, self.strides, self.dilations, self.outputs)
        return tuple(
            b + i + e - c
            for b, i, e, c in zip(self.begins, self.inputs, self.ends, covered, strict=True)
        )

    def transposed(self) -> dict[str, Shape]:
        """Attributes of the ConvTranspose that spreads outputs over inputs (opset 11).

        What no window covers is ``output_padding``; what sticks out is cropped.
        """
        ends = [e - min(left, 0) for e, left in zip(self.ends, self.leftover, strict=True)]
        return {
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": (*self.begins, *ends),
            "output_padding": tuple(max(left, 0) for left in self.leftover),
        }

    def as_convolution(self) -> Shape | None:
        """Padding of the plain convolution, with a flipped kernel, that does the same.

        Only without strides; None if it would need negative padding.
        """
        if set(self.strides) != {1}:
            return None
        reach = [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]
        begins = [r - b for r, b in zip(reach, self.begins, strict=True)]
        ends = [
            i - o + r - b
            for i, o, r, b in zip(self.inputs, self.outputs, reach, begins, strict=True)
        ]
        pads = (*begins, *ends)
        return pads if min(pads) >= 0 else None

    def cells(self, *, count_padding: bool) -> Float64Array:
        """How many cells each window averages: float64[*outputs] (ONNX AveragePool, opset 19)."""
        product = np.ones((1,) * len(self.kernel))
        for axis, (output, stride) in enumerate(zip(self.outputs, self.strides, strict=True)):
            low, high = (-self.begins[axis], self.inputs[axis] + self.ends[axis])
            if not count_padding:
                low, high = 0, self.inputs[axis]
            starts = np.arange(output)[:, None] * stride - self.begins[axis]
            cells = starts + np.arange(self.kernel[axis]) * self.dilations[axis]
            inside = ((cells >= low) & (cells < high)).sum(axis=1)
            around = [output if other == axis else 1 for other in range(len(self.kernel))]
            product = product * inside.reshape(around)
        return product


def _covered(kernel: Shape, strides: Shape, dilations: Shape, outputs: Shape) -> list[int]:
    sizes = zip(kernel, strides, dilations, outputs, strict=True)
    return [(o - 1) * s + d * (k - 1) + 1 for k, s, d, o in sizes]


def spatial(row: Shape) -> Shape:
    """[C, *spatial] -> spatial.

    Raises:
        NoRule: If there is none.
    """
    if len(row) < 2:
        raise NoRule("its input has no spatial axes")
    return row[1:]
