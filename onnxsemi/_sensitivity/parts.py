"""The layers and bitwidths of Δloss in parts, so that no graph holds all changed weights at once.

At every bitwidth of the ladder a layer has a changed weight of its own size: eight bitwidths are
eight times the model, and a serialized graph ends at 2 GiB. A part is some layers that follow each
other, so that its backward pass ends early where they are late, or some bitwidths of one layer that
is too large by itself. How a model falls into parts depends on its weights and the ladder alone,
not on the memory that is free: so no result does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxsemi._model.layer_groups import in_groups
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._runtime.batch_sizes import PART_BYTES


@dataclass(frozen=True)
class Part:
    """What one graph measures.

    Attributes:
        layers: Names of layers that follow each other.
        bits: Bitwidths that follow each other on the ladder.
    """

    layers: tuple[str, ...]
    bits: tuple[int, ...]


def parts_of(
    layers: Sequence[TargetLayer], bits: tuple[int, ...], limit: int = PART_BYTES
) -> list[Part]:
    """Cut layers and bitwidths into as few parts as the limit allows, in order.

    Args:
        layers: The layers, in graph order.
        bits: The ladder.
        limit: Bytes of changed weights in a part; one weight that is larger is a part by itself.

    >>> import numpy as np
    >>> layers = [TargetLayer(f"c{n}", np.zeros((n, 1), np.float32)) for n in (1, 2, 9, 1)]
    >>> [(part.layers, part.bits) for part in parts_of(layers, (8, 4), limit=40)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [(('c1', 'c2'), (8, 4)), (('c9',), (8,)), (('c9',), (4,)), (('c1',), (8, 4))]
    """
    parts = []
    for group in in_groups(layers, lambda layer: layer.weight.nbytes * len(bits), limit):
        most = limit // max(layer.weight.nbytes for layer in group)
        names = tuple(layer.name for layer in group)
        parts += [Part(names, some) for some in (_cut(bits, most) if len(group) == 1 else [bits])]
    return parts


def _cut(bits: tuple[int, ...], most: int) -> list[tuple[int, ...]]:
    """Bitwidths, at most ``most`` at a time, but at least one."""
    size = max(1, most)
    return [bits[start : start + size] for start in range(0, len(bits), size)]
