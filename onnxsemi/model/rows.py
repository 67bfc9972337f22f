"""Shape of one image's part of every tensor, found by running the model.

Running it is surer than inferring: shapes that the graph computes (Shape, Gather, Reshape) are
followed too. The model is run on one image and on two; a tensor whose first axis grows with them
has the batch there.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxsemi.model.classifier import Classifier
from onnxsemi.runtime import Session

Shape = tuple[int, ...]


def row_shapes(classifier: Classifier, image: Shape) -> Mapping[str, Shape]:
    """Shape of one row of each float32 tensor whose first axis is the batch.

    Args:
        classifier: The model.
        image: Shape of one image in the model's layout.

    Returns:
        Tensor name -> shape without the batch axis; the image included.
    """
    types = classifier.element_types
    graph = classifier.proto.graph
    names = [name for node in graph.node for name in node.output if types.get(name) == np.float32]
    session = Session(_with_shapes(classifier.proto, names), optimize=False)
    fixed = classifier.ends.image.batch
    batches = (fixed,) if fixed else (1, 2)
    runs = [
        session.run({classifier.ends.image.name: np.zeros((batch, *image), np.float32)})
        for batch in batches
    ]
    found = {classifier.ends.image.name: image}
    for name in names:
        shapes = [tuple(run[_shape_name(name)].tolist()) for run in runs]
        rows = {shape[1:] for shape in shapes}
        if len(rows) == 1 and [shape[:1] for shape in shapes] == [(b,) for b in batches]:
            found[name] = rows.pop()
    return found


def _with_shapes(model: onnx.ModelProto, names: list[str]) -> bytes:
    """The model with the shapes of the named tensors as its only outputs."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    for name in names:
        exposed.graph.node.append(helper.make_node("Shape", [name], [_shape_name(name)]))
        exposed.graph.output.append(
            helper.make_tensor_value_info(_shape_name(name), TensorProto.INT64, None)
        )
    return bytes(exposed.SerializeToString())


def _shape_name(name: str) -> str:
    return f"{name}/shape"
