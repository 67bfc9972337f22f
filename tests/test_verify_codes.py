"""The verifier on doubled codes, single bits and replaced biases: every change is found."""

import numpy as np
import onnx
import pytest
from emitting import HalfSteps, edit, plan_of, with_biases
from onnx import numpy_helper
from residual_net import save_noise, save_residual_net

from onnxsemi._data.load import load_images
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.verification import verify
from onnxsemi._errors import VerificationError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._pipeline.activations import calibrate
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import rounded
from onnxsemi._runtime.calibration import Calibration


class Case:
    """A plan with half steps, 1 bit, and other biases, a Gemm's among them, in a file."""

    def __init__(self, folder, profile):
        path = save_residual_net(folder / "net.onnx")
        self.classifier = read_model(path, ReadOptions(targets=TargetPolicy.ALL))
        image = self.classifier.ends.image
        images = load_images(
            save_noise(folder / "noise.npz", count=20, seed=1), image.name, image.shape
        )
        scheme = Scheme.SYMMETRIC if profile is Profile.INT8 else Scheme.ASYMMETRIC
        self.workload = Workload(self.classifier, images, HalfSteps(scheme), 1)
        self.plan = plan_of(self.classifier, (6, 1, 3)).with_bits("dw", range(8), 3)
        codes = rounded(self.classifier.layers, self.plan, self.workload.rounding)
        self.codes = with_biases(codes, ["c2", "scores"])
        quantizes = profile.quantizes_activations
        self.ranges = calibrate(self.classifier, images, Calibration.MINMAX) if quantizes else None
        self.model = emit(self.classifier, self.codes, profile, self.ranges)

    def verify(self, model, folder):
        path = folder / "written.onnx"
        onnx.save(model, path)
        verify(path, self.workload, self.codes, self.ranges)


def flip_a_doubled_code(model):
    def flip(codes):
        codes[0] ^= 1

    edit(model, "d_3", flip)


def flip_a_one_bit_code(model):
    def flip(codes):
        codes[0] ^= 1

    edit(model, "d_1", flip)


def one_half_step_of_a_zero_point(model):
    def step(zero_point):
        zero_point[-1] ^= 1

    grids = [t for t in model.graph.initializer if t.name.endswith("z") and t.data_type != 1]
    edit(model, grids[-1].name, step)


@pytest.fixture(scope="module", params=[Profile.QDQ, Profile.FAST, Profile.NODES, Profile.INT8])
def halves_case(request, tmp_path_factory):
    return Case(tmp_path_factory.mktemp("halves"), request.param)


def test_an_honest_file_of_half_steps_passes(halves_case, tmp_path):
    halves_case.verify(halves_case.model, tmp_path)


@pytest.mark.parametrize(
    "mutate",
    [flip_a_doubled_code, flip_a_one_bit_code, one_half_step_of_a_zero_point],
    ids=lambda function: function.__name__,
)
def test_every_mutation_of_half_steps_is_found(halves_case, tmp_path, mutate):
    model = onnx.ModelProto()
    model.CopyFrom(halves_case.model)
    mutate(model)
    with pytest.raises(VerificationError, match="weights are not the measured ones"):
        halves_case.verify(model, tmp_path)


@pytest.mark.parametrize("layer", ["c2", "scores"])
def test_the_lowest_bit_of_a_bias_is_found(halves_case, tmp_path, layer):
    model = onnx.ModelProto()
    model.CopyFrom(halves_case.model)
    wanted = halves_case.codes.layers[layer].bias
    stored = [
        t
        for t in model.graph.initializer
        if t.data_type == 1 and set(numpy_helper.to_array(t).ravel()) & set(wanted)
    ]
    edit(
        model, stored[0].name, lambda bias: np.bitwise_xor(bias.view("u4"), 1, out=bias.view("u4"))
    )
    message = f"layer '{layer}': the file's bias is not the measured one"
    with pytest.raises(VerificationError, match=message):
        halves_case.verify(model, tmp_path)
