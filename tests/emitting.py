"""Models of every operator, plans of every mix of bitwidths, and oracles of emitted weights."""

from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import onnx
import openvino
from onnx import helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from onnxsemi._emit.coded_sizes import GatherElements
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.storage.native import OPSETS
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.outputs import only_outputs
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme, quantize
from onnxsemi._quantizer.rounded_plan import Nearest, RoundedPlan, rounded
from onnxsemi._runtime.sessions import Session

FLOAT_PROFILES = [profile for profile in Profile if not profile.quantizes_activations]
ALL = ReadOptions(targets=TargetPolicy.ALL)
BITS = range(1, 9)
MIXES = {
    **{f"{bits}-bits": (bits,) for bits in BITS},
    "mixed": (8, 6, 4),
    "every-bitwidth": (3, 5, 1, 7, 2, 6, 4, 8),
    "with-float": (32, 4),
    "float-and-8": (8, 32),
    "0-bits": (0,),
    "with-0": (6, 0, 4),
    "float-and-0": (0, 32),
    "0-and-halves": (0, 0, 3, 1, 8),
}

# weight shape, attributes; the input has 4 channels of 6x6 (or 6, or 6x6x6)
OPERATORS = {
    "conv": ("Conv", (5, 4, 3, 3), {}),
    "1x1": ("Conv", (6, 4, 1, 1), {}),
    "grouped": ("Conv", (6, 2, 3, 3), {"group": 2}),
    "depthwise": ("Conv", (8, 1, 3, 3), {"group": 4}),
    "strided": ("Conv", (5, 4, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "conv1d": ("Conv", (5, 4, 3), {}),
    "conv3d": ("Conv", (5, 4, 2, 2, 2), {}),
    "transposed": ("ConvTranspose", (4, 5, 3, 3), {}),
    "transposed-grouped": ("ConvTranspose", (4, 3, 3, 3), {"group": 2}),
}


def conv_model(operator, biased, opset=17):
    """Convolution under test -> Relu -> convolution -> mean -> MatMul -> Gemm -> Softmax."""
    op, shape, attributes = OPERATORS[operator]
    rng = np.random.default_rng(len(operator))
    spatial = len(shape) - 2
    outputs = shape[1] * attributes.get("group", 1) if op == "ConvTranspose" else shape[0]
    constants = {
        "w": shape,
        "w2": (7, outputs, *[1] * spatial),
        "m": (7, 6),
        "g": (6, 5),
        "h": (5,),
    }
    if biased:
        constants["b"] = (outputs,)
    nodes = [
        helper.make_node(op, ["x", "w", *["b"] * biased], ["c"], "first", **attributes),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["d"], "second"),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["t"], "third"),
        helper.make_node("Gemm", ["t", "g", "h"], ["logits"], "fourth"),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    size = ("N", 4, *[6] * spatial)
    tensor = helper.make_tensor_value_info
    imports = [helper.make_opsetid("", opset)]
    ir_version = helper.find_min_ir_version_for(imports)
    inputs = [tensor("x", onnx.TensorProto.FLOAT, size)]
    if ir_version < 4:  # where every initializer must be an input
        inputs += [tensor(name, onnx.TensorProto.FLOAT, s) for name, s in constants.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [tensor("y", onnx.TensorProto.FLOAT, ("N", 5))],
        [
            numpy_helper.from_array(rng.normal(size=dims).astype(np.float32), name)
            for name, dims in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def read(model, folder, options=ALL):
    path = folder / "model.onnx"
    onnx.save(model, path)
    return read_model(path, options)


def plan_of(classifier, mix):
    bits = {layer.name: tuple(islice(cycle(mix), layer.channels)) for layer in classifier.layers}
    return BitPlan(bits, {layer.name: layer.channel_params for layer in classifier.layers})


class HalfSteps(Nearest):
    """Zero points in half steps, odd ones and even ones; on ordinary grids in ``WHOLE`` layers."""

    WHOLE = ("c1", "second")

    def at(self, layer, bits):
        plain = quantize(layer.weight, bits, self.scheme)
        if bits in (0, 1, 8) or layer.name in self.WHOLE:
            return plain
        zero = 2 * plain.zero_point.astype(int) + np.arange(layer.channels) % 3 - 1
        if self.scheme is Scheme.SYMMETRIC:
            zero[:] = 2**bits - 1
        zero = np.clip(zero, 0, 2 * (2**bits - 1)).astype(np.uint8)
        return QuantizedChannels(plain.codes, plain.scale / 2, zero, bits, doubled=True)


class Shifted(Nearest):
    """The biases that can, take up something below 8 bits."""

    def __init__(self, classifier):
        super().__init__(Scheme.ASYMMETRIC)
        object.__setattr__(self, "classifier", classifier)

    def bias_shift(self, layer, bits):
        site = self.classifier.site(layer.name)
        if bits == 8 or correctable_bias(self.classifier, site) is None:
            return None
        return np.random.default_rng(bits).normal(size=layer.channels).astype(np.float32)


ROUNDINGS = {
    **{scheme.value: Nearest(scheme) for scheme in Scheme},
    **{f"{scheme.value}-halves": HalfSteps(scheme) for scheme in Scheme},
}


def nearest(classifier, plan, scheme):
    return rounded(classifier.layers, plan, Nearest(scheme))


def with_biases(codes, layers):
    """Other biases in some layers."""
    draw = np.random.default_rng(9).normal
    found = dict(codes.layers)
    for name in layers:
        bias = draw(size=len(found[name].bits)).astype(np.float32)
        found[name] = replace(found[name], bias=bias)
    return RoundedPlan(codes.plan, codes.scheme, found)


def wanted_weights(model, classifier, plan, simulated):
    """What each tensor must hold that is a weight of a target, or of a part of one."""
    constants = {t.name: numpy_helper.to_array(t) for t in simulated.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    wanted = {}
    for site in classifier.sites:
        weight = constants[site.initializer]
        for name in site.nodes:
            if name in nodes:
                wanted[nodes[name].input[1]] = weight
                continue
            first = site.layout.to_channel_first(weight)
            bits_of = np.array(plan.bits[site.layer.name])
            for bits in set(bits_of.tolist()):
                part = first[bits_of == bits]
                stored = site.layout.of_channels(len(part)).to_stored(part)
                wanted[nodes[f"{name}/{bits}"].input[1]] = stored
    return wanted


def check_weights(model, classifier, codes):
    """Bit for bit, with ONNX Runtime's optimisation off and with the reference evaluator."""
    simulated = simulate(classifier, codes)
    wanted = wanted_weights(model, classifier, codes.plan, simulated)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    computed = sorted(wanted.keys() - constants.keys())
    runtime = reference = {}
    if computed:
        weights = only_outputs(model, computed)
        runtime = Session(weights.SerializeToString(), optimize=False).run({})
        # the reference evaluator has DequantizeLinear from opset 19 on
        if weights.opset_import[0].version < 20:
            weights = version_converter.convert_version(weights, 20)
        evaluated = ReferenceEvaluator(weights, new_ops=[GatherElements]).run(None, {})
        reference = dict(zip(computed, evaluated, strict=True))
    for name, weight in wanted.items():
        for oracle in (runtime, reference):
            found = oracle.get(name, constants.get(name))
            assert found.tobytes() == weight.tobytes(), name
    return simulated


def edit(model, name, change):
    """Apply ``change`` to the values of the initializer whose name ends so."""
    tensor = next(t for t in model.graph.initializer if t.name.endswith(name))
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def check_outputs(model, simulated, image_shape, profile=Profile.QDQ):
    """Same output as the simulation: exact without optimisation, float32 noise in OpenVINO."""
    images = np.random.default_rng(0).normal(size=image_shape).astype(np.float32)
    feed = {model.graph.input[0].name: images}
    name = model.graph.output[0].name
    exact, wanted = (
        Session(m.SerializeToString(), optimize=False).run(feed)[name] for m in (model, simulated)
    )
    if profile is Profile.NODES:  # the same sums, in kernels for other shapes
        assert np.abs(exact - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())
    else:
        assert exact.tobytes() == wanted.tobytes()
    if model.opset_import[0].version >= OPSETS[2]:
        return  # OpenVINO has no types of 2 bits
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled(list(feed.values()))[0]
    # float32 sums of a few hundred terms in another order
    assert np.abs(found - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())
