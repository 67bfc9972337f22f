"""Models with their emitted files, for the tests of the verifier."""

from dataclasses import replace

import onnx
from residual_net import save_noise, save_residual_net

from onnxsemi.calibration import Calibration
from onnxsemi.data.load import load_images
from onnxsemi.emit.model import emit
from onnxsemi.emit.profile import Profile
from onnxsemi.measure.bench import Bench
from onnxsemi.model.read import ReadOptions, read_model
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.pipeline.activations import calibrate
from onnxsemi.plan import BitPlan
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.quantizer.rounded import Nearest, rounded
from onnxsemi.verify import verify


class Case:
    """A classifier with a mixed plan, its emitted model and its simulation."""

    def __init__(self, folder, path=None):
        path = path or save_residual_net(folder / "net.onnx")
        self.classifier = read_model(path, ReadOptions(targets=TargetPolicy.CONV))
        image = self.classifier.ends.image
        noise = save_noise(folder / "noise.npz", count=20, seed=1)
        images = load_images(noise, image.name, image.shape)
        self.bench = Bench(self.classifier, images, Nearest(Scheme.ASYMMETRIC), 1)
        plan = BitPlan.uniform(self.classifier.layers, 6)
        for layer in self.classifier.layers:
            plan = plan.with_bits(layer.name, range(0, layer.channels, 2), 3)
        self.plan = plan.with_bits("c1", [1], 32).with_bits("stem", [0, 3], 8)
        self.codes = rounded(self.classifier.layers, self.plan, self.bench.rounding)
        self.model = emit(self.classifier, self.codes)

    def verify(self, model, folder):
        path = folder / "written.onnx"
        onnx.save(model, path)
        verify(path, self.bench, self.codes)


class IntegerCase:
    """The same with quantized activations."""

    def __init__(self, case):
        self.bench = replace(case.bench, rounding=Nearest(Scheme.SYMMETRIC))
        classifier = self.bench.classifier
        self.plan = case.plan.with_bits("c1", [1], 6)
        self.ranges = calibrate(classifier, self.bench.images, Calibration.MINMAX)
        self.codes = rounded(classifier.layers, self.plan, self.bench.rounding)
        self.model = emit(classifier, self.codes, Profile.INT8, self.ranges)

    def verify(self, model, folder):
        path = folder / "written.onnx"
        onnx.save(model, path)
        verify(path, self.bench, self.codes, self.ranges)


def gemm(model):
    return next(node for node in model.graph.node if node.op_type == "Gemm")
