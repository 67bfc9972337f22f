"""Codes and biases of a plan without its float32 weights: a quarter of the bytes.

Who has the float model puts the weights together again, bit for bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnxsemi._arrays import Float32Array
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme
from onnxsemi._quantizer.rounded_plan import RoundedLayer, RoundedPlan


@dataclass(frozen=True, eq=False)
class LayerCodes:
    """Codes and bias of a layer.

    Attributes:
        bits: Bitwidth of each channel.
        quantized: Bitwidth -> the channels that have it, ascending.
        bias: float32[O], or None; see :class:`RoundedLayer`.
    """

    bits: tuple[int, ...]
    quantized: Mapping[int, QuantizedChannels]
    bias: Float32Array | None

    @classmethod
    def of(cls, layer: RoundedLayer) -> "LayerCodes":
        """Leave the weight away."""
        return cls(layer.bits, dict(layer.quantized), layer.bias)

    def rounded(self, layer: TargetLayer) -> RoundedLayer:
        """With the weight."""
        return RoundedLayer.of(layer.weight, self.bits, self.quantized, self.bias)


@dataclass(frozen=True, eq=False)
class PlanCodes:
    """Codes and biases of all layers.

    Attributes:
        channel_params: Layer name -> weights in one of its channels.
        scheme: The scheme of the grids.
        layers: Layer name -> its codes.
    """

    channel_params: Mapping[str, int]
    scheme: Scheme
    layers: Mapping[str, LayerCodes]

    @classmethod
    def of(cls, plan: RoundedPlan) -> "PlanCodes":
        """Leave the weights away."""
        layers = {name: LayerCodes.of(layer) for name, layer in plan.layers.items()}
        return cls(dict(plan.plan.channel_params), plan.scheme, layers)

    def rounded(self, layers: Iterable[TargetLayer]) -> RoundedPlan:
        """With the weights.

        Args:
            layers: Target layers of the float model.
        """
        found = {layer.name: self.layers[layer.name].rounded(layer) for layer in layers}
        found = {name: found[name] for name in self.layers}
        bits = {name: codes.bits for name, codes in self.layers.items()}
        return RoundedPlan(BitPlan(bits, self.channel_params), self.scheme, found)
