"""Models of every operator, plans of every mix of bitwidths, and oracles of emitted weights."""

from itertools import cycle, islice

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from onnxsemi.measure.evaluator import simulate
from onnxsemi.model.expose import only_outputs
from onnxsemi.model.read import ReadOptions, read_model
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.plan import BitPlan
from onnxsemi.runtime import Session

ALL = ReadOptions(targets=TargetPolicy.ALL)
BITS = range(2, 9)
MIXES = {
    **{f"{bits}-bits": (bits,) for bits in BITS},
    "mixed": (8, 6, 4),
    "every-bitwidth": (3, 5, 7, 2, 6, 4, 8),
    "with-float": (32, 4),
    "float-and-8": (8, 32),
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


def check_weights(model, classifier, plan, scheme):
    """Bit for bit, with ONNX Runtime's optimisation off and with the reference evaluator."""
    simulated = simulate(classifier, plan, scheme)
    wanted = wanted_weights(model, classifier, plan, simulated)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    computed = sorted(wanted.keys() - constants.keys())
    runtime = reference = {}
    if computed:
        weights = only_outputs(model, computed)
        runtime = Session(weights.SerializeToString(), optimize=False).run({})
        # the reference evaluator has DequantizeLinear from opset 19 on
        if weights.opset_import[0].version < 20:
            weights = version_converter.convert_version(weights, 20)
        reference = dict(zip(computed, ReferenceEvaluator(weights).run(None, {}), strict=True))
    for name, weight in wanted.items():
        for oracle in (runtime, reference):
            found = oracle.get(name, constants.get(name))
            assert found.tobytes() == weight.tobytes(), name
    return simulated
