"""How weights are rounded."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from onnxsemi._enum_choice import choice
from onnxsemi._field_types import check_fields
from onnxsemi._option import Option, Panel


class Ranges(StrEnum):
    """How a channel's range follows from its weights."""

    MINMAX = "minmax"
    """From the smallest to the largest weight: the paper's."""
    MSE = "mse"
    """The clip that changes the weights least."""
    OUTPUT = "output"
    """The clip whose rounded weights change the layer's output least."""


class RoundingMethod(StrEnum):
    """How a weight becomes a code."""

    NEAREST = "nearest"
    """The nearest level: the paper's."""
    GPTQ = "gptq"
    """One after the other; the others make up for the error of each."""
    RATE = "rate"
    """The same on grids without a range, each code weighed by what it takes entropy-coded."""


class Inputs(StrEnum):
    """What inputs a layer is rounded for."""

    FLOAT = "float"
    """Those of the float model: every layer by itself."""
    QUANTIZED = "quantized"
    """Those of the model as far as it is quantized, towards the float model's outputs."""


@dataclass(frozen=True, kw_only=True)
class RoundingSettings:
    """What makes codes of weights.

    Attributes:
        half_steps: Whether zero points may lie between two levels, at 4 bits and below.
        sweeps: Sweeps of coordinate descent after error-compensating rounding.
    """

    ranges: Annotated[Ranges, Option(Panel.ROUNDING, metavar="NAME", advanced=True)] = Ranges.OUTPUT
    """minmax: smallest to largest weight; mse: the clip that changes the weights least; output: the
    clip whose rounded weights change the layer's output least."""
    method: Annotated[
        RoundingMethod, Option(Panel.ROUNDING, flags=("--rounding",), advanced=True)
    ] = RoundingMethod.GPTQ
    """nearest level; gptq: the weights behind make up for the error of each; rate: the same, on an
    odd number of levels with zero among them, where a code that takes fewer bits once it is
    entropy-coded may leave a larger error (with `profile` dense)."""
    inputs: Annotated[Inputs, Option(Panel.ROUNDING, metavar="NAME", advanced=True)] = (
        Inputs.QUANTIZED
    )
    """Inputs that layers are rounded for. quantized: what the quantized layers before them give;
    float: the float model's."""
    bias_correction: Annotated[bool, Option(Panel.ROUNDING, advanced=True)] = True
    """Let biases take up the mean of what rounding changes, or leave them as they are."""
    half_steps: bool = True
    sweeps: int = 2

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "ranges", choice(Ranges, self.ranges))
        object.__setattr__(self, "method", choice(RoundingMethod, self.method))
        object.__setattr__(self, "inputs", choice(Inputs, self.inputs))

    @property
    def on_whole_steps(self) -> "RoundingSettings":
        """The same on grids that ONNX's own narrow types have, which know no half steps."""
        return replace(self, half_steps=False)
