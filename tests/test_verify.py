"""The verifier: an honest file passes, and every change to it is found."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from emitting import edit
from onnx import helper, numpy_helper
from verify_cases import Case, IntegerCase, gemm

from onnxsemi._atomic_file import whole_file
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.verification import verify
from onnxsemi._errors import VerificationError
from onnxsemi._pipeline.output import Writer
from onnxsemi._runtime.sessions import Session


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="module")
def integer_case(case):
    return IntegerCase(case)


def node(model, name):
    return next(node for node in model.graph.node if node.name == name)


def flip_code_bit(model):
    def flip(codes):
        codes[0] ^= 1

    edit(model, "_6", flip)


def one_ulp_of_a_scale(model):
    def nudge(scale):
        scale[-1] = np.nextafter(scale[-1], np.float32(1e9))

    edit(model, "_3s", nudge)


def one_step_of_a_zero_point(model):
    def step(zero_point):
        zero_point[0] ^= 1

    edit(model, "_3z", step)


def swap_two_channels(model):
    def swap(places):
        places[[0, 1]] = places[[1, 0]]

    edit(model, "qo", swap)


def change_a_float_channel(model):
    def nudge(weight):
        weight.ravel()[0] = np.nextafter(weight.ravel()[0], np.float32(1e9))

    edit(model, "_32", nudge)


def change_a_bias(model):
    def nudge(bias):
        bias[0] += 0.01

    edit(model, node(model, "stem").input[2], nudge)


def change_the_classifier(model):
    def nudge(weight):
        weight[0, 0] += 0.01

    edit(model, gemm(model).input[1], nudge)


def change_pads(model):
    attribute = next(a for a in node(model, "c2").attribute if a.name == "pads")
    attribute.ints[:] = [2, 2, 0, 0]


def drop_a_relu(model):
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Identity"


def rename_a_layer(model):
    node(model, "c2").name = "other"


def scale_the_scores(model):
    last = next(node for node in model.graph.node if "scores" in node.output)
    last.output[0] = "raw"
    two = numpy_helper.from_array(np.float32(1.001), "factor")
    model.graph.initializer.append(two)
    model.graph.node.append(helper.make_node("Mul", ["raw", "factor"], ["scores"]))


def give_nan(model):
    def poison(bias):
        bias[0] = np.nan

    edit(model, gemm(model).input[2], poison)


def untie_a_shared_weight(model):
    weight = np.zeros((8, 8, 3, 3), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "loose"))
    node(model, "tied2").input[1] = "loose"


def break_the_graph(model):
    node(model, "c2").input[0] = "nowhere"


MUTATIONS = [
    flip_code_bit,
    one_ulp_of_a_scale,
    one_step_of_a_zero_point,
    swap_two_channels,
    change_a_float_channel,
    change_a_bias,
    change_the_classifier,
    change_pads,
    drop_a_relu,
    rename_a_layer,
    scale_the_scores,
    give_nan,
    untie_a_shared_weight,
    break_the_graph,
]


def test_an_honest_file_passes(case, tmp_path):
    case.verify(case.model, tmp_path)


def test_short_memory_runs_image_by_image_and_finds_the_same(case, tmp_path, monkeypatch):
    tight = replace(case.workload, memory=1)
    assert tight.rows(8) == 1
    sizes = []
    original = Session.run

    def run(session, feeds):
        sizes.extend(len(rows) for rows in feeds.values())
        return original(session, feeds)

    monkeypatch.setattr(Session, "run", run)
    path = tmp_path / "written.onnx"
    onnx.save(case.model, path)
    verify(path, tight, case.codes)
    assert set(sizes) == {1}
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    change_a_bias(model)
    onnx.save(model, path)
    with pytest.raises(VerificationError):
        verify(path, tight, case.codes)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda function: function.__name__)
def test_every_mutation_is_found(case, tmp_path, mutate):
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    mutate(model)
    with pytest.raises(VerificationError):
        case.verify(model, tmp_path)


def activation_grid(model):
    """The first QuantizeLinear and the DequantizeLinear behind it."""
    quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    return quantize, next(n for n in model.graph.node if quantize.output[0] in n.input)


def double_an_activation_scale(model):
    def double(scale):
        scale *= 2

    edit(model, activation_grid(model)[0].input[1], double)


def shift_an_activation(model):
    _, dequantize = activation_grid(model)
    zero = numpy_helper.from_array(np.uint8(7), "seven")
    model.graph.initializer.append(zero)
    dequantize.input[2] = "seven"


def leave_an_activation_float(model):
    quantize, dequantize = activation_grid(model)
    for user in model.graph.node:
        names = [quantize.input[0] if n == dequantize.output[0] else n for n in user.input]
        user.input[:] = names


@pytest.mark.parametrize(
    "mutate",
    [
        flip_code_bit,
        one_step_of_a_zero_point,
        swap_two_channels,
        change_a_bias,
        double_an_activation_scale,
        shift_an_activation,
        leave_an_activation_float,
    ],
    ids=lambda function: function.__name__,
)
def test_every_mutation_of_an_integer_file_is_found(integer_case, tmp_path, mutate):
    model = onnx.ModelProto()
    model.CopyFrom(integer_case.model)
    if mutate is one_step_of_a_zero_point:
        edit(model, "z", lambda zeros: np.add(zeros, 1, out=zeros))
    else:
        mutate(model)
    with pytest.raises(VerificationError):
        integer_case.verify(model, tmp_path)


def test_an_honest_integer_file_passes(integer_case, tmp_path):
    integer_case.verify(integer_case.model, tmp_path)


def test_kernels_that_err_are_found(integer_case, tmp_path, monkeypatch):
    """As a processor's would whose 16-bit sums overflow."""
    original = Session.__init__

    def on_integers(session, model, *, integers=False, **options):
        if integers:
            wrong = onnx.load_from_string(model)
            edit(wrong, node(wrong, "stem").input[2], lambda bias: np.add(bias, 3, out=bias))
            model = wrong.SerializeToString()
        original(session, model, integers=integers, **options)

    monkeypatch.setattr(Session, "__init__", on_integers)
    with pytest.raises(VerificationError, match="integer kernels"):
        integer_case.verify(integer_case.model, tmp_path)


def test_message_names_the_layer(case, tmp_path):
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    untie_a_shared_weight(model)
    with pytest.raises(VerificationError, match="layer 'tied1'"):
        case.verify(model, tmp_path)


def test_a_truncated_file_is_found(case, tmp_path):
    path = tmp_path / "written.onnx"
    path.write_bytes(case.model.SerializeToString()[:-700])
    with pytest.raises(VerificationError):
        verify(path, case.workload, case.codes)


def test_a_file_that_fails_is_not_left_behind_and_the_old_one_stays(case, tmp_path, monkeypatch):
    def dishonest(*arguments):
        model = emit(*arguments)
        flip_code_bit(model)
        return model

    monkeypatch.setattr("onnxsemi._pipeline.output.emit", dishonest)
    output = tmp_path / "small.onnx"
    output.write_bytes(b"precious")
    with pytest.raises(VerificationError), whole_file(output) as scratch:
        Writer(case.workload, Profile.QDQ).write(case.codes, scratch, output)
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]
    assert output.read_bytes() == b"precious"
