"""The seam between searching and measuring: plans in, accuracy and divergence out. Pure numpy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from onnxsemi.arrays import Float64Array, read_only
from onnxsemi.layers import Semilayer
from onnxsemi.plan import BitPlan


@dataclass(frozen=True)
class Score:
    """How a model does on a set of images.

    Attributes:
        correct: Images whose top-1 answer is the label.
        total: Images measured.
        loss: Mean cross-entropy, nats per sample.
    """

    correct: int
    total: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return self.correct / self.total


class Evaluator(Protocol):
    """Measures plans on the search images."""

    def score(self, plan: BitPlan) -> Score:
        """Accuracy and loss of the model with the plan's fake-quantized weights."""

    def kl(self, semilayers: Sequence[Semilayer]) -> Float64Array:
        """KL of each semilayer quantized alone, everything else float32: float64[S], nats."""


@dataclass(frozen=True, eq=False)
class DeltaLossTable:
    """Δloss of every target channel at every bitwidth (paper, section 3.2).

    Attributes:
        bits: The bitwidths, widest first: the columns.
        nats: Layer name -> float64[O, len(bits)], nats per sample.
        samples: Images that Δloss is the mean over.
    """

    bits: tuple[int, ...]
    nats: Mapping[str, Float64Array]
    samples: int

    def __post_init__(self) -> None:
        for layer, values in self.nats.items():
            if values.ndim != 2 or values.shape[1] != len(self.bits):
                raise ValueError(f"layer {layer!r}: Δloss of shape {values.shape}")
        frozen = {layer: read_only(values) for layer, values in self.nats.items()}
        object.__setattr__(self, "nats", MappingProxyType(frozen))

    def column(self, layer: str, bits: int) -> Float64Array:
        """Δloss of each channel of ``layer`` at ``bits``: float64[O]."""
        return self.nats[layer][:, self.bits.index(bits)]
