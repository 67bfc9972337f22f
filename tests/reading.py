"""Reading a model in a test, and comparing it with the file as it is written."""

import numpy as np
import onnx
from onnx import version_converter
from onnx.reference import ReferenceEvaluator
from onnx_models import (
    images,
)

from onnxsemi._model.loader import default_opset
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._runtime.sessions import Session

ALL = ReadOptions(targets=TargetPolicy.ALL)
# float32 noise of folding: each output is the sum of at most 72 products a layer, a few layers deep
FOLDING = 72 * 2**-23
BATCH = 4


def write(model, folder, name="model.onnx"):
    path = folder / name
    onnx.save(model, path)
    return path


def read(model, folder, options=ALL):
    return read_model(write(model, folder), options)


def answers(model, feed, name):
    """One output, with the graph as it is written: ONNX Runtime and the reference evaluator."""
    runtime = Session(model.SerializeToString(), optimize=False).run(feed)[name]
    names = [value.name for value in model.graph.output]
    # below opset 14 the reference evaluator's BatchNormalization takes statistics of the batch
    raised = model if default_opset(model) >= 14 else version_converter.convert_version(model, 17)
    reference = ReferenceEvaluator(raised).run(None, feed)[names.index(name)]
    return runtime, reference


def same_function(model, classifier):
    """The folded model against the file as it is written, with both oracles."""
    name = classifier.ends.output
    feed = {classifier.ends.image.name: images(BATCH)}
    found = Session(classifier.proto.SerializeToString()).run(feed)[name]
    for expected in answers(model, feed, name):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= FOLDING * np.abs(expected).max()
