"""What reading makes plain: training mode, other heads, sparse and bfloat16 weights, pixels."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from emitting import nearest, plan_of
from onnx import TensorProto, helper, numpy_helper
from onnx_models import HEAD, SAME, Net, conv, head_shapes, images, normalization
from reading import ALL, read, same_function, write

import onnxsemi
from onnxsemi._data.images import ImageSet
from onnxsemi._emit.model import emit
from onnxsemi._errors import DataError, ModelError
from onnxsemi._evaluation.batch_independence import check_own_answers
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._runtime.sessions import Session

SHAPES = {"stem_w": (8, 3, 3, 3), **head_shapes(8)}
NORM = {f"norm_{part}": (8,) for part in ("scale", "b", "mean", "var")}
PLAIN = Net(conv("stem", "image", SAME) + "last = Relu (stem)\n" + HEAD, SHAPES)
NORMALIZED = Net(
    conv("stem", "image", SAME) + normalization("norm", "stem") + "last = Relu (norm)\n" + HEAD,
    {**SHAPES, **NORM},
)
DROPPED = Net(
    conv("stem", "image", SAME)
    + "ratio = Constant <value = float {0.5}> ()\non = Constant <value = bool {1}> ()\n"
    + "last = Dropout (stem, ratio, on)\n"
    + HEAD,
    SHAPES,
)


def in_training(model):
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            node.attribute.append(helper.make_attribute("training_mode", 1))
            node.output.extend(["mean_now", "var_now"])
    return model


def test_normalization_by_the_batch_takes_the_running_statistics(tmp_path):
    model = NORMALIZED.model()
    classifier = read(in_training(NORMALIZED.model()), tmp_path)
    same_function(model, classifier)
    (note,) = classifier.notes
    assert note.startswith("norm: BatchNormalization in training mode")


def test_so_it_does_before_opset_14_where_more_outputs_say_so(tmp_path):
    model = NORMALIZED.model(opset=9)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            node.output.extend(["mean_now", "var_now", "mean_saved", "var_saved"])
    assert len(read(model, tmp_path).notes) == 1


def test_statistics_of_the_batch_that_are_used_are_refused(tmp_path):
    model = in_training(NORMALIZED.model())
    names = [node.op_type for node in model.graph.node]
    relu = model.graph.node[names.index("Relu")]
    relu.op_type = "Add"
    relu.input.append("shift")
    shape = helper.make_node("Reshape", ["mean_now", "to"], ["shift"])
    model.graph.node.insert(names.index("Relu"), shape)
    to = numpy_helper.from_array(np.array([1, 8, 1, 1], np.int64), "to")
    model.graph.initializer.append(to)
    with pytest.raises(ModelError, match="'norm' is BatchNormalization in training mode"):
        read(model, tmp_path)


def test_dropout_at_random_is_removed_and_said(tmp_path):
    classifier = read(DROPPED.model(), tmp_path)
    assert "Dropout" not in {node.op_type for node in classifier.proto.graph.node}
    (note,) = classifier.notes
    assert note.startswith("last: Dropout in training mode")
    off = DROPPED.model()
    for node in off.graph.node:
        if node.name == "on":
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.zeros((), bool), "on"))
    assert read(off, tmp_path).notes == ()


def with_head(model):
    """Another head, of more weights, and an initializer that nothing takes."""
    extra = np.random.default_rng(3).normal(size=(8, 50)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(extra, "aux_w"))
    model.graph.initializer.append(numpy_helper.from_array(extra, "nothing"))
    model.graph.node.append(helper.make_node("MatMul", ["flat", "aux_w"], ["aux"], "aux"))
    value = helper.make_tensor_value_info("aux", TensorProto.FLOAT, ["N", 50])
    model.graph.output.append(value)
    return model


def test_what_the_judged_output_does_not_need_is_dropped_and_said(tmp_path):
    model = with_head(PLAIN.model())
    classifier = read(model, tmp_path, ReadOptions(output="scores"))
    assert [value.name for value in classifier.proto.graph.output] == ["scores"]
    assert [site.layer.name for site in classifier.sites] == ["stem", "scores"]
    kept = sum(t.ByteSize() for t in PLAIN.model().graph.initializer)
    share = 1 - kept / sum(t.ByteSize() for t in model.graph.initializer)
    assert classifier.notes == (
        f"dropped, as output 'scores' does not need it: output 'aux', {share:.0%} of the bytes of "
        "its weights",
    )
    same_function(PLAIN.model(), classifier)
    assert read(PLAIN.model(), tmp_path).notes == ()


def sparse(model, name, *, linear):
    """A weight as a sparse initializer, without its smallest half."""
    (dense,) = (t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(dense).copy()
    values[np.abs(values) < np.median(np.abs(values))] = 0
    dense.CopyFrom(numpy_helper.from_array(values, name))
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    kept = [t for t in model.graph.initializer if t.name != name]
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(kept)
    places = np.flatnonzero(values) if linear else np.argwhere(values)
    held = numpy_helper.from_array(values[values != 0], name)
    indices = numpy_helper.from_array(places.astype(np.int64), f"{name}_at")
    changed.graph.sparse_initializer.append(
        helper.make_sparse_tensor(held, indices, list(values.shape))
    )
    return model, changed


@pytest.mark.parametrize("linear", [True, False])
def test_a_sparse_weight_is_a_target(linear, tmp_path):
    model, changed = sparse(PLAIN.model(), "stem_w", linear=linear)
    classifier = read(changed, tmp_path)
    assert [site.layer.name for site in classifier.sites] == ["stem", "scores"]
    same_function(model, classifier)


def in_bfloat16(model):
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    return model


def test_bfloat16_weights_are_widened_exactly(tmp_path):
    model = in_bfloat16(PLAIN.model(opset=22))
    classifier = read(model, tmp_path)
    assert classifier.notes[0].startswith("bfloat16 was widened to float32: input and output are")
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for layer in classifier.layers:
        narrow = stored[f"{layer.name}_w"].astype(np.float32)
        assert layer.weight.tobytes() == narrow.tobytes()


PIXELS = Net(
    "full = Constant <value = float {255}> ()\n"
    "float = Cast <to = 1> (image)\nunit = Div (float, full)\n"
    "turned = Transpose <perm = [0,3,1,2]> (unit)\n"
    + conv("stem", "turned", SAME)
    + "last = Relu (stem)\n"
    + HEAD,
    SHAPES,
    image="uint8[N,8,8,3] image",
)


def pixels(count):
    return np.random.default_rng(5).integers(0, 256, (count, 8, 8, 3), np.uint8)


def test_a_model_of_pixels_takes_them_as_they_are_before_and_after(tmp_path):
    path, shown = write(PIXELS.model(), tmp_path), pixels(300)
    (expected,) = Session(path.read_bytes()).run({"image": shown}).values()
    labels = expected.argmax(axis=1)
    found = onnxsemi.evaluate(path, (shown, labels), settings=onnxsemi.EvaluateSettings(force=True))
    assert found.correct == 300
    classifier = read_model(path, ALL)
    codes = nearest(classifier, plan_of(classifier, (8,)), Scheme.ASYMMETRIC)
    written = write(emit(classifier, codes), tmp_path, "small.onnx")
    session = Session(written.read_bytes())
    assert onnx.load(written).graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    (now,) = session.run({"image": shown}).values()
    assert 0 < np.abs(now - expected).max() < 0.05 * np.abs(expected).max()
    again = onnxsemi.evaluate(
        written, (shown, labels), settings=onnxsemi.EvaluateSettings(force=True)
    )
    assert again.correct == int((now.argmax(axis=1) == labels).sum())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (ImageSet("set", pixels(40) / np.float32(255)), "float images, but the model takes uint8"),
        (ImageSet("set", pixels(40), normalization=onnxsemi.Normalization(mean=(0.5,))), "mean or"),
    ],
)
def test_images_that_are_no_plain_pixels_are_refused(given, said, tmp_path):
    with pytest.raises(DataError, match=said):
        onnxsemi.evaluate(write(PIXELS.model(), tmp_path), given)


MEAN_OF_BATCH = Net(
    conv("stem", "image", SAME)
    + "seen = ReduceMean <axes = [0], keepdims = 1> (stem)\nlast = Sub (stem, seen)\n"
    + HEAD,
    SHAPES,
)
RANDOM = Net(
    conv("stem", "image", SAME)
    + "noise = RandomNormalLike (stem)\nlast = Add (stem, noise)\n"
    + HEAD,
    SHAPES,
)


@pytest.mark.parametrize(
    ("net", "said"),
    [(MEAN_OF_BATCH, "depends on the other images of its batch"), (RANDOM, "another answer each")],
)
def test_answers_that_are_not_an_images_own_are_refused(net, said, tmp_path):
    classifier = read(net.model(), tmp_path)
    shown = ImageSet("set", images(8)).fit(classifier.ends.image.shape)
    with pytest.raises(ModelError, match=said):
        check_own_answers(classifier.proto, classifier.ends, shown)
    plain = read(PLAIN.model(), tmp_path)
    check_own_answers(plain.proto, plain.ends, shown)


def test_compress_and_evaluate_look_at_it_before_anything_is_measured(tmp_path):
    path = write(MEAN_OF_BATCH.model(), tmp_path)
    for call in (onnxsemi.evaluate, onnxsemi.check):
        with pytest.raises(ModelError, match="other images of its batch"):
            call(path, images(60))
