"""What was emitted is what was measured.

The written file is read back and compared with the simulation, which is the float graph with the
plan's fake-quantized weights:

1. ``onnx.checker``, full check.
2. The weights that its nodes compute, with ONNX Runtime's optimisation off: bit for bit.
3. Its output and its logits on images, with optimisation off and on: within ``TOLERANCE`` of the
   largest magnitude. The two graphs run the same arithmetic on the same weights; what may differ is
   the order of float32 sums that an optimiser chooses.

Quantized activations are in the simulation too. With optimisation on the file then runs on integer
kernels, which round otherwise: a bias becomes a multiple of the grids' product, a sum goes from one
grid to the next without passing float32. Each such rounding is of the size of one to a uint8 grid,
so the logits may differ by as much as two such runs that err independently: the root mean square of
the difference is at most ``KERNEL_NOISE`` times that between the simulation with quantized and with
float32 activations. (Measured on ResNets: 0.65 to 1 times.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import checker, numpy_helper

from onnxsemi.arrays import Float32Array
from onnxsemi.emit.activations import Ranges
from onnxsemi.emit.model import put_together
from onnxsemi.emit.profile import FORMS, Profile
from onnxsemi.errors import VerificationError, first_line
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.evaluator import simulate
from onnxsemi.measure.shards import padded, shards
from onnxsemi.model.classifier import Classifier
from onnxsemi.model.expose import only_outputs, with_outputs
from onnxsemi.model.targets import Site
from onnxsemi.plan import BitPlan
from onnxsemi.runtime import Session

TOLERANCE = 1e-5
CHECKED_IMAGES = 32
KERNEL_NOISE = 2.0
RUN_IMAGES = 4  # as the tensors of a graph that is not optimised are many


def verify(path: Path, bench: Bench, plan: BitPlan, ranges: Ranges | None = None) -> None:
    """Compare a written file with the model that was measured.

    Args:
        path: The written file.
        bench: The float model that it was made from, and images; the first few are used.
        plan: Bits of every target channel.
        ranges: Ranges of the activations, if those are quantized.

    Raises:
        VerificationError: With what differs and where.
    """
    try:
        checker.check_model(str(path), full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(f"{path}: not valid ONNX: {first_line(error)}") from error
    written = onnx.load_model(path)
    simulated = simulate(bench.classifier, plan, bench.scheme)
    _compare_weights(written, _all_expected(written, simulated, bench.classifier, plan))
    if ranges is None:
        _compare_outputs(written, simulated, bench, optimize=(False, True))
        return
    rounded = put_together(bench.classifier, plan, bench.scheme, FORMS[Profile.FAKE], ranges)
    rounded.ir_version = written.ir_version
    _compare_outputs(written, rounded, bench, optimize=(False,))
    _compare_kernels(written, rounded, simulated, bench)


@dataclass(frozen=True, eq=False)
class _Expected:
    """What a tensor of the file must hold."""

    layer: str
    weight: Float32Array


def _all_expected(
    written: onnx.ModelProto, simulated: onnx.ModelProto, classifier: Classifier, plan: BitPlan
) -> dict[str, _Expected]:
    """Tensor of the file -> the weight that it must hold, for every target layer."""
    constants = {t.name: t for t in simulated.graph.initializer}
    expected: dict[str, _Expected] = {}
    for site in classifier.sites:
        weight = numpy_helper.to_array(constants[site.initializer])
        expected |= _expected(written, site, plan.bits[site.layer.name], weight)
    return expected


def _expected(
    written: onnx.ModelProto, site: Site, bits: Sequence[int], weight: Float32Array
) -> dict[str, _Expected]:
    """The tensors that hold a layer's weight: one, or one for each bitwidth's node."""
    layer, nodes = site.layer.name, {node.name: node for node in written.graph.node}
    if all(name in nodes for name in site.nodes):
        return dict.fromkeys(_weights(nodes, site.nodes, layer), _Expected(layer, weight))
    parts: dict[str, _Expected] = {}
    bits_of = np.array(bits)
    for value in set(bits):
        channels = site.layout.to_channel_first(weight)[bits_of == value]
        part = site.layout.of_channels(len(channels)).to_stored(channels)
        names = [f"{name}/{value}" for name in site.nodes]
        parts |= dict.fromkeys(_weights(nodes, names, layer), _Expected(layer, part))
    return parts


def _weights(nodes: Mapping[str, onnx.NodeProto], names: Sequence[str], layer: str) -> list[str]:
    if not set(names) <= set(nodes):
        raise VerificationError(f"layer {layer!r} is not in the file as it was")
    return [nodes[name].input[1] for name in names]


def _compare_weights(written: onnx.ModelProto, expected: Mapping[str, _Expected]) -> None:
    initializers = {tensor.name: tensor for tensor in written.graph.initializer}
    computed = sorted(expected.keys() - initializers.keys())
    weights = {
        name: numpy_helper.to_array(initializers[name])
        for name in expected.keys() & initializers.keys()
    }
    if computed:
        session = Session(only_outputs(written, computed).SerializeToString(), optimize=False)
        weights |= session.run({})
    for name, wanted in expected.items():
        if not _same_bits(weights[name], wanted.weight):
            raise VerificationError(
                f"layer {wanted.layer!r}: the file's weights are not the measured ones"
            )


def _compare_outputs(
    written: onnx.ModelProto, simulated: onnx.ModelProto, bench: Bench, *, optimize: Iterable[bool]
) -> None:
    ends = bench.classifier.ends
    names = list(dict.fromkeys((ends.logits, ends.output)))
    for way in optimize:
        found, wanted = (
            _outputs(model, names, bench, optimize=way) for model in (written, simulated)
        )
        for name in names:
            difference = float(np.abs(found[name] - wanted[name]).max(initial=0.0))
            largest = float(np.abs(wanted[name]).max(initial=0.0))
            if not difference <= TOLERANCE * largest:  # also false for NaN
                raise VerificationError(
                    f"{name!r} differs from the measured model by {difference:.3g} "
                    f"(largest magnitude {largest:.3g}, optimisation {'on' if way else 'off'})"
                )


def _compare_kernels(
    written: onnx.ModelProto, rounded: onnx.ModelProto, simulated: onnx.ModelProto, bench: Bench
) -> None:
    logits = bench.classifier.ends.logits
    on_integers, on_grids, in_float = (
        _outputs(model, [logits], bench, integers=integers)[logits]
        for model, integers in ((written, True), (rounded, False), (simulated, False))
    )
    difference, noise = _rms(on_integers - on_grids), _rms(on_grids - in_float)
    if not difference <= KERNEL_NOISE * noise + TOLERANCE * _rms(in_float):
        raise VerificationError(
            f"{logits!r} differs on integer kernels by {difference:.3g} (root mean square) from "
            f"what uint8 activations give, which themselves differ by {noise:.3g} from float32: "
            "this processor's integer kernels, or a range of the activations, may be at fault"
        )


def _rms(values: Float32Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _outputs(
    model: onnx.ModelProto,
    names: list[str],
    bench: Bench,
    *,
    optimize: bool = True,
    integers: bool = False,
) -> dict[str, Float32Array]:
    """Each output on the first images, flattened: few at a time, as the memory allows."""
    image = bench.classifier.ends.image
    count = min(image.batch or CHECKED_IMAGES, len(bench.images))
    serialized = with_outputs(model, names).SerializeToString()
    session = Session(serialized, optimize=optimize, integers=integers)
    runs = [
        session.run({image.name: padded(bench.images.batch(run.start, run.stop), image.batch)})
        for run in shards(count, image.batch, bench.rows(RUN_IMAGES))
    ]
    return {name: np.concatenate([run[name].ravel() for run in runs]) for name in names}


def _same_bits(left: Float32Array, right: Float32Array) -> bool:
    same_form = left.shape == right.shape and left.dtype == right.dtype
    return same_form and left.tobytes() == right.tobytes()
