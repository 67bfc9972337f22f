"""The least memory that ``compress`` needs, whatever the number of images.

    least = held now + table + max over the stages of what each holds at its peak

The table has a byte for each weight and bitwidth. A stage holds copies of the model while ONNX
Runtime loads it, the sums of one group of layers, or what the rounding of its widest layer takes:
with panels of k columns, k x k moments of each in float32, and factors in float64 of as many as
there are threads. Bounds from above, in units of things that are known before anything is measured
(``benchmarks/large_models.py`` prints the peak beside them).
"""

from collections.abc import Sequence

import numpy as np

from onnxsemi._errors import SettingsError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.shapes import image_shapes
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._rounding.observed_layers import ObservedLayer, layer_groups, observed_layers
from onnxsemi._runtime.batch_sizes import CANDIDATE_ROWS
from onnxsemi._runtime.memory import resident
from onnxsemi._sensitivity.parts import parts_of
from onnxsemi._settings import Settings

_READING = 7  # copies of the model while it is read and folded, beyond those that are kept
_LOADING = 4  # copies of a graph from its nodes to a session: proto, bytes, parsed, packed
_LOADED = 2  # copies of a graph in its session while it runs
_PASSES = 40  # of the largest tensor, while one image goes forward and back at every bitwidth
_PLANS = 6  # the current plan's weights, those tried, the best one's: as they are, and packed
_GROUP = 2  # a group's tensors: as they come, and joined
_MOMENTS = 12  # bytes for each entry of the k x k matrices: as they are used, factors, joined
_FACTOR = 28  # bytes for each entry of one while it is centred, or factorized and inverted
_ROUNDED = 24  # bytes for each weight of a block of rows while it is rounded
_WEIGHT = 32  # bytes for each weight of a layer: float64 sums, what they move it by, codes


def check_memory(given: int, workload: Workload, settings: Settings) -> None:
    """Refuse a bound that cannot hold.

    Args:
        given: The bound, bytes.
        workload: Model and images, not yet measured.
        settings: What the user set.

    Raises:
        SettingsError: If more is needed; the message says how much.
    """
    need = least_memory(workload, settings)
    if given < need:
        raise SettingsError(
            f"`max_memory`: {given / 2**20:.0f} MB is less than what this model needs, about "
            f"{-(-need // 2**20)} MB whatever the number of images"
        )


def least_memory(workload: Workload, settings: Settings) -> int:
    """Bytes of the process below which no bound holds, from above."""
    layers = workload.classifier.layers
    weights = sum(layer.weight.nbytes for layer in layers)
    model = int(workload.classifier.proto.ByteSize())
    pinned = {pin.bits for pin in settings.pins}
    bits = tuple(sorted({*settings.search.bits, *pinned} - {0, FLOAT_BITS}, reverse=True))
    calibrated = settings.rounds is not None
    tables = 2 if settings.crosses(len(workload.images)) else 1
    table = tables * weights // 4 * len(bits) if calibrated else 0
    probe = 2 * model + _changes(layers, bits)  # forward, backward, changed weights
    stages = (
        _READING * model,
        model + _LOADING * probe,
        model
        + _LOADED * probe
        + workload.threads * _image(workload)
        + _products(layers, len(bits), settings),
        _PLANS * weights + _LOADING * model,
        _rounding(observed_layers(workload.classifier, workload.image), workload.threads)
        if calibrated
        else 0,
    )
    return resident() + table + max(stages)


def _changes(layers: Sequence[TargetLayer], bits: tuple[int, ...]) -> int:
    """Bytes of the changed weights of the largest part of Δloss."""
    sizes = {layer.name: layer.weight.nbytes for layer in layers}
    parts = parts_of(layers, bits)
    return max(sum(sizes[name] for name in part.layers) * len(part.bits) for part in parts)


def _products(layers: Sequence[TargetLayer], bits: int, settings: Settings) -> int:
    """Bytes of the products between channels, if they are summed."""
    independent = settings.search.strategy.independent
    return 0 if independent else sum(4 * bits * layer.channels**2 for layer in layers)


def _image(workload: Workload) -> int:
    """Bytes that one image takes in the graph of Δloss: the forward pass is kept whole."""
    shapes = image_shapes(workload.classifier, workload.image)
    sizes = [4 * int(np.prod(row)) for row in shapes.values()]
    return sum(sizes) + _PASSES * max(sizes)


def _rounding(layers: Sequence[ObservedLayer], threads: int) -> int:
    """Bytes of a group's sums, and of its tensors or the rounding of its widest layer."""
    return max((_of_group(group, threads) for group in layer_groups(layers)), default=0)


def _of_group(group: Sequence[ObservedLayer], threads: int) -> int:
    sums = sum(layer.moment_bytes for layer in group)
    tensors = sum(layer.tensor_bytes for layer in group)
    return sums + max(_GROUP * tensors, *(_of_layer(layer, threads) for layer in group))


def _of_layer(layer: ObservedLayer, threads: int) -> int:
    count, width = len(layer.panels), layer.panels.width
    factors = min(threads, count) * _FACTOR * width**2
    rows = _WEIGHT * layer.site.layer.weight.size + threads * _ROUNDED * CANDIDATE_ROWS * width
    return _MOMENTS * count * width**2 + max(factors, rows)
