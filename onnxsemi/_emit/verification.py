"""What was emitted is what was measured.

The written file is read back and compared with the simulation, which is the float graph with the
plan's quantized weights, and the biases that go with them:

1. ``onnx.checker``, full check.
2. The weights that its nodes compute, with ONNX Runtime's optimisation off, and the biases that
   were replaced: bit for bit.
3. Its output and its logits on images, with optimisation off, with the weights folded, and in a
   default session, on the threads that it takes and many images at once: within ``TOLERANCE`` of
   the largest magnitude. The two graphs run the same arithmetic on the same weights; what may
   differ is the order of float32 sums that an optimiser chooses. (A default session has fusions of
   its own for what it dequantizes.) A deep model enlarges what that order changes: with
   optimisation on the two may also differ by ``SUM_NOISE`` times what optimisation changes in the
   simulation itself, as two such runs err independently; never by more than ``MOST_NOISE`` of the
   largest magnitude. (Measured on a ResNet-50 of random weights: 3e-5 of the largest logit, 1.1
   times.)

Quantized activations are in the simulation too. With optimisation on the file then runs on integer
kernels, which round otherwise: a bias becomes a multiple of the grids' product, a sum goes from one
grid to the next without passing float32. Each such rounding is of the size of one to an 8-bit grid,
so the logits may differ by as much as two such runs that err independently: the root mean square of
the difference is at most ``KERNEL_NOISE`` times that between the simulation with quantized and with
float32 activations. (Measured on ResNets: 0.65 to 1 times.)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import checker, numpy_helper

from onnxsemi._arrays import Float32Array
from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._emit.divided_layers import KEY, read_divided
from onnxsemi._emit.model import put_together
from onnxsemi._emit.profile import FORMS, Profile
from onnxsemi._emit.stored_weights import emitted_properties
from onnxsemi._errors import VerificationError, one_line
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.outputs import only_outputs, with_outputs
from onnxsemi._model.targets import Site
from onnxsemi._quantizer.rounded_plan import RoundedLayer, RoundedPlan
from onnxsemi._runtime.batch_sizes import UNOPTIMIZED_IMAGES, VERIFIED_IMAGES
from onnxsemi._runtime.sessions import Session

TOLERANCE = 1e-5
SUM_NOISE, MOST_NOISE = 2.0, 1e-3
KERNEL_NOISE = 2.0


@dataclass(frozen=True)
class _Way:
    """How a file is run.

    Attributes:
        said: In words.
        session: Arguments of its session.
        images: In one run at the most.
    """

    said: str
    session: Mapping[str, bool]
    images: int = UNOPTIMIZED_IMAGES


_UNOPTIMIZED = _Way("with optimisation off", {"optimize": False})
_FOLDED = _Way("with weights folded, as `load_session` opens it", {})
_DEFAULT = _Way("in a default session", {"folded": False, "threaded": True}, VERIFIED_IMAGES)


def verify(
    path: Path, workload: Workload, rounded: RoundedPlan, ranges: ActivationRanges | None = None
) -> None:
    """Compare a written file with the model that was measured.

    Args:
        path: The written file.
        workload: The float model that it was made from, and images; the first few are used.
        rounded: Codes of every target channel.
        ranges: Ranges of the activations, if those are quantized.

    Raises:
        VerificationError: With what differs and where.
    """
    try:
        checker.check_model(str(path), full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(f"{path}: not valid ONNX: {one_line(error)}") from error
    written = onnx.load_model(path)
    simulated = simulate(workload.classifier, rounded)
    expected = list(_all_expected(written, workload.classifier, rounded))
    _compare_weights(written, expected)
    _compare_biases(written, expected)
    if ranges is None:
        _compare_outputs(written, simulated, workload, (_UNOPTIMIZED, _FOLDED, _DEFAULT))
        return
    own = FORMS[Profile(emitted_properties(written)["onnxsemi.profile"])]
    form = replace(FORMS[Profile.FAKE], signed_activations=own.signed_activations)
    on_grids = put_together(workload.classifier, rounded, form, ranges)
    on_grids.ir_version = written.ir_version
    _compare_outputs(written, on_grids, workload, [_UNOPTIMIZED])
    _compare_kernels(written, on_grids, simulated, workload)


@dataclass(frozen=True, eq=False)
class _Expected:
    """What a node of the file must hold.

    Attributes:
        layer: Name of the layer.
        node: The node, or the one of a bitwidth.
        weight: float32, as the operator stores it.
        bias: float32[O]; None if it was left as it is.
    """

    layer: str
    node: onnx.NodeProto
    weight: Float32Array
    bias: Float32Array | None


def _all_expected(
    written: onnx.ModelProto, classifier: Classifier, rounded: RoundedPlan
) -> Iterator[_Expected]:
    """What the nodes of every target layer must hold."""
    nodes = {node.name: node for node in written.graph.node}
    divided = read_divided(written) if KEY in emitted_properties(written) else {}
    for site in classifier.sites:
        name = site.layer.name
        try:
            yield from _expected(nodes, site, rounded.layers[name], divided.get(name))
        except KeyError:
            raise VerificationError(f"layer {name!r} is not in the file as it was") from None


def _expected(
    nodes: Mapping[str, onnx.NodeProto],
    site: Site,
    rounded: RoundedLayer,
    parts: Mapping[int, list[str]] | None,
) -> Iterator[_Expected]:
    """A layer's nodes in the file: its own, or one for each bitwidth."""
    layer = site.layer.name
    if parts is None:
        weight = site.layout.to_stored(rounded.weight)
        for name in site.nodes:
            yield _Expected(layer, nodes[name], weight, rounded.bias)
        return
    bits_of = np.array(rounded.bits)
    for bits in sorted(set(rounded.bits)):
        channels = np.flatnonzero(bits_of == bits)
        stored = site.layout.of_channels(len(channels)).to_stored(rounded.weight[channels])
        bias = None if rounded.bias is None else rounded.bias[channels]
        for name in parts[bits]:
            yield _Expected(layer, nodes[name], stored, bias)


def _compare_weights(written: onnx.ModelProto, expected: Iterable[_Expected]) -> None:
    initializers = {tensor.name: tensor for tensor in written.graph.initializer}
    names = {wanted.node.input[1] for wanted in expected}
    computed = sorted(names - initializers.keys())
    weights = {
        name: numpy_helper.to_array(initializers[name]) for name in names & initializers.keys()
    }
    if computed:
        session = Session(only_outputs(written, computed).SerializeToString(), optimize=False)
        weights |= session.run({})
    for wanted in expected:
        if not _same_bits(weights[wanted.node.input[1]], wanted.weight):
            raise VerificationError(
                f"layer {wanted.layer!r}: the file's weights are not the measured ones"
            )


def _compare_biases(written: onnx.ModelProto, expected: Iterable[_Expected]) -> None:
    initializers = {tensor.name: tensor for tensor in written.graph.initializer}
    for wanted in expected:
        if wanted.bias is None:
            continue
        stored = initializers.get(_bias_name(written, wanted.node))
        if stored is None or not _same_bits(numpy_helper.to_array(stored), wanted.bias):
            raise VerificationError(
                f"layer {wanted.layer!r}: the file's bias is not the measured one"
            )


def _bias_name(written: onnx.ModelProto, node: onnx.NodeProto) -> str:
    """The tensor that is added to a node's channels: by the node itself, or by an Add behind it."""
    if len(node.input) > 2:
        return str(node.input[2])
    behind = (n for n in written.graph.node if n.op_type == "Add" and n.input[0] == node.output[0])
    return next((str(add.input[1]) for add in behind), "")


def _compare_outputs(
    written: onnx.ModelProto,
    simulated: onnx.ModelProto,
    workload: Workload,
    ways: Iterable[_Way],
) -> None:
    """Compare outputs in every way; the first is with optimisation off."""
    ends = workload.classifier.ends
    names = list(dict.fromkeys((ends.logits, ends.output)))
    plain: dict[str, Float32Array] = {}
    for way in ways:
        found, wanted = (_outputs(model, names, workload, way) for model in (written, simulated))
        plain = plain or wanted
        for name in names:
            difference = _largest(found[name] - wanted[name])
            largest, noise = _largest(wanted[name]), _largest(wanted[name] - plain[name])
            allowed = min(TOLERANCE * largest + SUM_NOISE * noise, MOST_NOISE * largest)
            if not difference <= allowed:  # also false for NaN
                raise VerificationError(
                    f"{name!r} differs from the measured model by {difference:.3g} "
                    f"(largest magnitude {largest:.3g}) {way.said}"
                )


def _compare_kernels(
    written: onnx.ModelProto, grids: onnx.ModelProto, simulated: onnx.ModelProto, workload: Workload
) -> None:
    logits = workload.classifier.ends.logits
    on_integers, on_grids, in_float = (
        _outputs(model, [logits], workload, _Way("", {"integers": integers}))[logits]
        for model, integers in ((written, True), (grids, False), (simulated, False))
    )
    difference, noise = _rms(on_integers - on_grids), _rms(on_grids - in_float)
    if not difference <= KERNEL_NOISE * noise + TOLERANCE * _rms(in_float):
        raise VerificationError(
            f"{logits!r} differs on integer kernels by {difference:.3g} (root mean square) from "
            f"what 8-bit activations give, which themselves differ by {noise:.3g} from float32: "
            "this processor's integer kernels, or a range of the activations, may be at fault"
        )


def _largest(values: Float32Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def _rms(values: Float32Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _outputs(
    model: onnx.ModelProto,
    names: list[str],
    workload: Workload,
    way: _Way,
) -> dict[str, Float32Array]:
    """Each output on the first images, flattened: few at a time, as the memory allows.

    Args:
        model: A model of the same form.
        names: Outputs.
        workload: Images.
        way: How the model is run.
    """
    image = workload.classifier.ends.image
    count = min(image.batch or VERIFIED_IMAGES, len(workload.images))
    session = Session(with_outputs(model, names).SerializeToString(), **way.session)
    with workload.running() as runner:
        pixels = {image.name: workload.images.batch(0, count)}
        found = runner.run_rows(session, pixels, way.images)
    return {name: found[name].ravel() for name in names}


def _same_bits(left: Float32Array, right: Float32Array) -> bool:
    same_form = left.shape == right.shape and left.dtype == right.dtype
    return same_form and left.tobytes() == right.tobytes()
