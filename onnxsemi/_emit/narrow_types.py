"""Which layers a file of profile native holds in ONNX's own types of 2 and 4 bits."""

from collections.abc import Mapping
from dataclasses import dataclass

from onnxsemi._emit.profile import Profile
from onnxsemi._emit.storage.native import narrow_type
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import RoundedLayer, RoundedPlan


@dataclass(frozen=True)
class NarrowTypes:
    """How the layers of a file are stored.

    Attributes:
        layers: Layer -> ONNX types that hold its codes, such as UINT4, widest first.
        others: Quantized layers with none: their bitwidths have no type narrower than a byte.
    """

    layers: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]


def narrow_types(rounded: RoundedPlan, profile: Profile) -> NarrowTypes | None:
    """What a plan's file holds; None for a profile that uses no such types.

    Args:
        rounded: Codes of every target channel.
        profile: Form of the file.
    """
    if not profile.has_narrow_types:
        return None
    signed = rounded.scheme is Scheme.SYMMETRIC
    quantized = {name: layer for name, layer in rounded.layers.items() if layer.quantized}
    found = {name: _types(layer, signed=signed) for name, layer in quantized.items()}
    typed = {name: types for name, types in found.items() if types}
    return NarrowTypes(typed, tuple(name for name in found if name not in typed))


def _types(layer: RoundedLayer, *, signed: bool) -> tuple[str, ...]:
    widest_first = sorted(layer.quantized.values(), key=lambda q: -q.bits)
    types = (narrow_type(channels, signed=signed) for channels in widest_first)
    return tuple(name for name in types if name is not None)
