"""Models with their emitted files, for the tests of the verifier."""

from dataclasses import replace

import onnx
from residual_net import save_noise, save_residual_net

from onnxsemi._data.load import load_images
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.verification import verify
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._pipeline.activations import calibrate
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._runtime.calibration import Calibration


class Case:
    """A classifier with a mixed plan, its emitted model and its simulation."""

    def __init__(self, folder, path=None):
        path = path or save_residual_net(folder / "net.onnx")
        self.classifier = read_model(path, ReadOptions(targets=TargetPolicy.CONV))
        image = self.classifier.ends.image
        noise = save_noise(folder / "noise.npz", count=20, seed=1)
        images = load_images(noise, image.name, image.shape)
        self.workload = Workload(self.classifier, images, Nearest(Scheme.ASYMMETRIC), 1)
        plan = BitPlan.uniform(self.classifier.layers, 6)
        for layer in self.classifier.layers:
            plan = plan.with_bits(layer.name, range(0, layer.channels, 2), 3)
        self.plan = plan.with_bits("c1", [1], 32).with_bits("stem", [0, 3], 8)
        self.codes = rounded(self.classifier.layers, self.plan, self.workload.rounding)
        self.model = emit(self.classifier, self.codes)

    def verify(self, model, folder):
        path = folder / "written.onnx"
        onnx.save(model, path)
        verify(path, self.workload, self.codes)


class IntegerCase:
    """The same with quantized activations."""

    def __init__(self, case):
        self.workload = replace(case.workload, rounding=Nearest(Scheme.SYMMETRIC))
        classifier = self.workload.classifier
        self.plan = case.plan.with_bits("c1", [1], 6)
        self.ranges = calibrate(classifier, self.workload.images, Calibration.MINMAX)
        self.codes = rounded(classifier.layers, self.plan, self.workload.rounding)
        self.model = emit(classifier, self.codes, Profile.INT8, self.ranges)

    def verify(self, model, folder):
        path = folder / "written.onnx"
        onnx.save(model, path)
        verify(path, self.workload, self.codes, self.ranges)


def gemm(model):
    return next(node for node in model.graph.node if node.op_type == "Gemm")
