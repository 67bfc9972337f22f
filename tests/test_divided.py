"""Profile nodes: which nodes a layer was divided into is told by the file, not by their names."""

from itertools import cycle, islice

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, run
from onnx import numpy_helper, parser

from onnxsemi._emit.bitwidths import bits_of
from onnxsemi._emit.divided_layers import KEY, read_divided
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.stored_weights import read_stored
from onnxsemi._emit.verification import verify
from onnxsemi._errors import VerificationError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import read_model
from onnxsemi._pipeline.apply import random_images
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded

NAMES = ("block", "block/1", "block/2", "block/2_2", "a", "a/8")
MIXES = {
    "all divided": (2, 1),
    "names of others": (8, 2, 1),
    "one divided": (8,),
}


def net():
    """Layers one after the other, whose names are those that parts of other layers would have."""
    rng, tensor, nodes = np.random.default_rng(0), "image", []
    for place, _ in enumerate(NAMES):
        nodes += [
            f"c{place} = Conv <pads = [1,1,1,1]> ({tensor}, w{place})",
            f"r{place} = Relu (c{place})",
        ]
        tensor = f"r{place}"
    body = "\n".join(nodes)
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        names (float[N,4,6,6] image) => (float[N,4] scores)
        {{
            {body}
            pooled = GlobalAveragePool ({tensor})
            scores = Flatten (pooled)
        }}"""
    )
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.name = NAMES[int(node.output[0][1:])]
    for place, _ in enumerate(NAMES):
        weight = rng.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, f"w{place}"))
    return model


@pytest.fixture
def classifier(tmp_path):
    onnx.save(net(), tmp_path / "model.onnx")
    return read_model(tmp_path / "model.onnx")


def plan_of(classifier, mix):
    plan = BitPlan.uniform(classifier.layers)
    for layer in classifier.layers:
        given = (4, 1) if mix == (8,) and layer.name == "block" else mix
        for channel, bits in enumerate(islice(cycle(given), layer.channels)):
            plan = plan.with_bits(layer.name, [channel], bits)
    return plan


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_names_that_parts_of_other_layers_would_have(mix, classifier, tmp_path):
    plan = plan_of(classifier, mix)
    codes = rounded(classifier.layers, plan, Nearest(Scheme.ASYMMETRIC))
    model = emit(classifier, codes, Profile.NODES)
    path = tmp_path / "nodes.onnx"
    onnx.save(model, path)
    workload = Workload(
        classifier, random_images(classifier.ends.image), Nearest(Scheme.ASYMMETRIC), 1
    )
    verify(path, workload, codes)
    assert bits_of(model) == plan.listed()
    groups = {
        layer.name: {group.bits: group.channels for group in layer.groups}
        for layer in read_stored(model).layers
    }
    assert groups == {
        name: {each: bits.count(each) for each in bits} for name, bits in plan.listed().items()
    }
    names = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert len(names) == len(set(names))
    divided = {name for name, bits in plan.listed().items() if len(set(bits)) > 1}
    assert read_divided(model).keys() == divided


def test_a_part_that_holds_the_weights_of_another_layer(classifier, tmp_path):
    codes = rounded(classifier.layers, plan_of(classifier, (8, 4)), Nearest(Scheme.ASYMMETRIC))
    model = emit(classifier, codes, Profile.NODES)
    nodes = {node.name: node for node in model.graph.node}
    one, other = nodes["block/8"], nodes["block/1/8"]
    one.input[1], other.input[1] = other.input[1], one.input[1]
    onnx.save(model, tmp_path / "swapped.onnx")
    workload = Workload(
        classifier, random_images(classifier.ends.image), Nearest(Scheme.ASYMMETRIC), 1
    )
    with pytest.raises(VerificationError, match="weights are not the measured ones"):
        verify(tmp_path / "swapped.onnx", workload, codes)


@pytest.mark.parametrize("said", [None, "", "[]", '{"block": 3}'])
def test_a_file_that_does_not_say_it(said, classifier, tmp_path):
    codes = rounded(classifier.layers, plan_of(classifier, (8, 4)), Nearest(Scheme.ASYMMETRIC))
    model = emit(classifier, codes, Profile.NODES)
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != KEY]
    onnx.helper.set_model_props(model, dict(kept) | ({} if said is None else {KEY: said}))
    onnx.save(model, tmp_path / "silent.onnx")
    assert_one_line(run("inspect", tmp_path / "silent.onnx"), KEY, "write it anew with 'apply'")


def test_the_map_is_not_shown(classifier, tmp_path):
    codes = rounded(classifier.layers, plan_of(classifier, (8, 4)), Nearest(Scheme.ASYMMETRIC))
    paths = [tmp_path / "nodes.onnx", tmp_path / "qdq.onnx"]
    for path, profile in zip(paths, (Profile.NODES, Profile.QDQ), strict=True):
        onnx.save(emit(classifier, codes, profile), path)
    for shown in (run("inspect", paths[0]), run("inspect", *paths)):
        assert shown.exit_code == 0, shown.output
        assert "divided" not in shown.stdout
        assert "nodes" in shown.stdout
