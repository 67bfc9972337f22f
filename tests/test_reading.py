"""Reading a model: what is accepted stays the same function."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import (
    HEAD,
    IDENTITY,
    IMAGE,
    NORMALIZED,
    SAME,
    STEM,
    STEM_SHAPES,
    TIED,
    Net,
    conv,
    head_shapes,
    images,
    in_float16,
    normalization,
    normalization_shapes,
    text_model,
    with_constant_nodes,
    with_local_function,
    with_weights_as_inputs,
)
from reading import ALL, BATCH, answers, read, same_function, write

from onnxsemi._errors import ModelError
from onnxsemi._model.loader import file_bytes
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.to_float32 import to_float32
from onnxsemi._runtime.sessions import Session


def weights_of(classifier):
    return [layer.weight.tobytes() for layer in classifier.layers]


def op_types(classifier):
    return [node.op_type for node in classifier.proto.graph.node]


OPSETS = (7, 9, 11, 13, 17, 18, 20, 21)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("net", [IDENTITY, NORMALIZED], ids=["plain", "normalized"])
def test_opsets(net, opset, tmp_path):
    model = net.model(opset)
    classifier = read(model, tmp_path, ReadOptions(targets="hidden"))
    assert tuple(layer.name for layer in classifier.layers) == net.hidden
    assert classifier.notes == ()
    same_function(model, classifier)


@pytest.mark.parametrize("opset", [1, 5, 6])
def test_older_opsets_are_refused(opset, tmp_path):
    """Gemm has ``broadcast`` there, so a model without it is used."""
    text = f"net ({IMAGE}) => (float[N,2,8,8] scores) {{ scores = Conv {{}} (image, w) }}"
    node = "<pads = [1,1,1,1]>"
    model = text_model(text.replace("{}", node), {"w": (2, 3, 3, 3)}, opset=7)
    model.opset_import[0].version = opset
    with pytest.raises(ModelError, match=f"opset {opset} is older than 7; export it anew"):
        read(model, tmp_path)


def test_batch_normalization_is_folded_into_the_convolution_before_it(tmp_path):
    model = NORMALIZED.model()
    classifier = read(model, tmp_path)
    assert "BatchNormalization" not in op_types(classifier)
    same_function(model, classifier)
    given = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    factor = given["c1_n_scale"] / np.sqrt(given["c1_n_var"] + 1e-5)
    folded = given["c1_w"] * factor[:, None, None, None]
    found = classifier.site("c1").layer.weight
    # a handful of float32 roundings, none of them amplified
    assert np.abs(found - folded).max() <= 8 * 2**-24 * np.abs(folded).max()


def test_batch_normalization_before_a_convolution_stays(tmp_path):
    """A pre-activation block: nothing before it can take it up."""
    net = Net(
        STEM
        + normalization("n", "a")
        + "r = Relu (n)\n"
        + conv("c1", "r", SAME)
        + "last = Add (c1, a)\n"
        + HEAD,
        {
            **STEM_SHAPES,
            **normalization_shapes("n", 6),
            "c1_w": (6, 6, 3, 3),
            **head_shapes(6),
        },
    )
    model = net.model()
    classifier = read(model, tmp_path)
    assert "BatchNormalization" in op_types(classifier)
    same_function(model, classifier)


def external_data(model, folder):
    path = folder / "external.onnx"
    changed = onnx.ModelProto()
    changed.CopyFrom(model)  # saving moves the weights out of the model that it is given
    onnx.save_model(
        changed, path, save_as_external_data=True, location="external.bin", size_threshold=0
    )
    return path


@dataclass(frozen=True)
class Form:
    """How a file may hold the weights of a model."""

    id: str
    written: Callable[[onnx.ModelProto, Path], Path]


def identities(model):
    """Every weight goes through an Identity, as exporters write weights that are shared."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    for tensor in changed.graph.initializer:
        changed.graph.node.append(
            helper.make_node("Identity", [f"{tensor.name}_kept"], [tensor.name])
        )
        tensor.name += "_kept"
    changed.graph.node.extend(model.graph.node)
    return changed


def constant_branch(model):
    """The image goes through an If whose condition is a constant, which folds."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    value = helper.make_tensor_value_info("branch", TensorProto.FLOAT, None)
    taken, other = (
        helper.make_graph([helper.make_node(op, ["image"], ["branch"])], op, [], [value])
        for op in ("Identity", "Neg")
    )
    condition = numpy_helper.from_array(np.ones((), bool), "condition")
    changed.graph.initializer.append(condition)
    for node in changed.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    branch = helper.make_node("If", ["condition"], ["pixels"], then_branch=taken, else_branch=other)
    nodes = [branch, *changed.graph.node]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


FORMS = [
    Form("constant nodes", lambda model, folder: write(with_constant_nodes(model), folder)),
    Form("inputs too, IR 3", lambda model, folder: write(with_weights_as_inputs(model), folder)),
    Form("external data", external_data),
    Form(
        "external data of constant nodes",
        lambda model, folder: external_data(with_constant_nodes(model), folder),
    ),
    Form("local function", lambda model, folder: write(with_local_function(model), folder)),
    Form("identities", lambda model, folder: write(identities(model), folder)),
    Form("constant condition", lambda model, folder: write(constant_branch(model), folder)),
]


@pytest.mark.parametrize("net", [IDENTITY, NORMALIZED, TIED], ids=["plain", "normalized", "tied"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.id)
def test_forms_of_the_weights(form, net, tmp_path):
    """Whatever the form, the same weights and the same answers, bit for bit."""
    model = net.model(opset=8)
    plain = read(model, tmp_path)
    found = read_model(form.written(model, tmp_path), ALL)
    assert weights_of(found) == weights_of(plain)
    feed = {"image": images(BATCH)}
    one, other = (Session(c.proto.SerializeToString()).run(feed)["scores"] for c in (plain, found))
    assert one.tobytes() == other.tobytes()
    assert [value.name for value in found.proto.graph.input] == ["image"]
    assert not found.proto.functions
    same_function(net.model(opset=8), found)


def test_shared_weight_stays_shared(tmp_path):
    model = TIED.model()
    classifier = read(model, tmp_path)
    assert classifier.site("t1").nodes == ("t1", "t2")
    same_function(model, classifier)


def test_shared_weight_with_two_normalizations_becomes_two(tmp_path):
    """Folding scales one weight in two ways."""
    body = TIED.body.replace(
        "t2 = Conv <pads = [1,1,1,1]> (t1,", "t2 = Conv <pads = [1,1,1,1]> (n1,"
    )
    body = body.replace("t2 = ", normalization("n1", "t1") + "t2 = ")
    body = body.replace("c3 = Conv", normalization("n2", "t2") + "c3 = Conv").replace(
        "(t2, c3_w", "(n2, c3_w"
    )
    shapes = {**TIED.shapes, **normalization_shapes("n1", 6), **normalization_shapes("n2", 6)}
    model = Net(body, shapes).model()
    classifier = read(model, tmp_path, ReadOptions(targets="hidden"))
    assert [layer.name for layer in classifier.layers] == ["t1", "t2", "c3"]
    same_function(model, classifier)


@pytest.mark.parametrize("damage", ["missing", "short", "empty", "folder", "outside"])
def test_external_data_that_cannot_be_read(damage, tmp_path):
    path = external_data(IDENTITY.model(), tmp_path)
    data = tmp_path / "external.bin"
    if damage == "outside":
        model = onnx.load_model(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../external.bin"
        path.write_bytes(model.SerializeToString())
    elif damage == "short":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "empty":
        data.write_bytes(b"")
    else:
        data.unlink()
        if damage == "folder":
            data.mkdir()
    with pytest.raises(
        ModelError, match=r"external\.onnx: its external data cannot be read: "
    ) as e:
        read_model(path)
    assert "\n" not in str(e.value)


def test_size_of_a_file_counts_its_external_data(tmp_path):
    model = IDENTITY.model()
    assert file_bytes(write(model, tmp_path)) == len(model.SerializeToString())
    path = external_data(model, tmp_path)
    together = path.stat().st_size + (tmp_path / "external.bin").stat().st_size
    assert file_bytes(path) == together


def test_a_model_that_can_be_read_only_once(tmp_path, monkeypatch):
    path = write(IDENTITY.model(), tmp_path)

    def fails(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(onnx, "load_model", fails)
    with pytest.raises(ModelError, match=r"\.onnx: cannot be read: Input/output error"):
        file_bytes(path)


def test_float16_weights_are_widened_exactly(tmp_path):
    model = in_float16(IDENTITY.model())
    classifier = read(model, tmp_path)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for layer in classifier.layers:
        narrow = stored[f"{layer.name}_w"]
        assert layer.weight.dtype == np.float32
        assert layer.weight.tobytes() == narrow.astype(np.float32).tobytes()
    assert classifier.notes == ("float16 was widened to float32: input and output are float32 now",)
    ends = (*classifier.proto.graph.input, *classifier.proto.graph.output)
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}


def with_casts(model):
    """float16 inside, float32 outside, a Softmax before the last Cast."""
    changed = in_float16(model)
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in changed.graph.node:
        node.input[:] = ["narrow" if name == "image" else name for name in node.input]
    nodes = list(changed.graph.node)
    nodes[-1].output[0] = "raw"
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    del changed.graph.node[:]
    changed.graph.node.append(helper.make_node("Cast", ["image"], ["narrow"], to=half))
    changed.graph.node.extend(nodes)
    changed.graph.node.append(helper.make_node("Softmax", ["raw"], ["soft"], axis=1))
    changed.graph.node.append(helper.make_node("Cast", ["soft"], ["scores"], to=single))
    return changed


@pytest.mark.parametrize(
    ("change", "logits"),
    [
        (in_float16, "scores"),
        (lambda model: with_constant_nodes(in_float16(model)), "scores"),
        (with_casts, "raw"),
    ],
    ids=["float16 ends", "constant nodes", "float32 ends"],
)
def test_float16_model_gives_the_same_answers(change, logits, tmp_path):
    model = change(NORMALIZED.model())
    classifier = read(model, tmp_path)
    assert classifier.ends.logits == logits
    assert len(classifier.notes) == 1
    assert "Cast" not in op_types(classifier)[:-1]
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    rows = images(BATCH).astype(np.float16)
    feed = {"image": rows.astype(np.float32)}
    found = Session(classifier.proto.SerializeToString()).run(feed)["scores"]
    # every one of the 12 tensors on the way is rounded to 11 bits, in the oracles only
    for expected in answers(model, {"image": rows.astype(kind)}, "scores"):
        assert np.abs(found - expected).max() <= 12 * 2**-11 * np.abs(expected).max()


def test_widening_leaves_a_float32_model_alone():
    model = NORMALIZED.model()
    before = model.SerializeToString()
    assert to_float32(model) == ()
    assert model.SerializeToString() == before
    assert len(to_float32(in_float16(model))) == 1


def test_reading_twice_gives_the_same_fingerprint_and_another_weight_another(tmp_path):
    model = NORMALIZED.model()
    first, second = read(model, tmp_path), read(model, tmp_path)
    assert first.fingerprint == second.fingerprint
    assert first.proto.SerializeToString() == second.proto.SerializeToString()
    assert read(NORMALIZED.model(seed=1), tmp_path).fingerprint != first.fingerprint


def test_parameters_are_counted_after_folding(tmp_path):
    classifier = read(NORMALIZED.model(), tmp_path)
    # stem 6x3x3x3 and 6 biases that folding brought, c1 6x6x3x3 and 6, classifier 5x6 and 5
    assert classifier.parameters == 162 + 6 + 324 + 6 + 30 + 5
