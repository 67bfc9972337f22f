"""The bias of a layer: what it is, and whether it can be changed."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxsemi._arrays import Float32Array, read_only
from onnxsemi._model.bias_input import TAKES_BIAS
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.fact import fact
from onnxsemi._model.targets import Site


@fact
def correctable_bias(classifier: Classifier, site: Site) -> Float32Array | None:
    """The bias of a layer's node: float32[O], read-only, zeros if it has none.

    Returns:
        None if :meth:`Classifier.with_weights` cannot give the layer another bias that is simply
        added to its channels: several nodes share the weight, the operator takes no bias (MatMul)
        or scales it (Gemm with ``beta``), the bias is computed at run time, or it is not float32 of
        one value a channel, or one for all.
    """
    node = classifier.nodes[site.nodes[0]]
    beta = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "beta"), 1.0)
    if len(site.nodes) != 1 or node.op_type not in TAKES_BIAS or beta != 1.0:
        return None
    name, channels = node.input[2] if len(node.input) > 2 else "", site.layer.channels
    if not name:
        return read_only(np.zeros(channels, np.float32))
    tensor = classifier.index.constants.get(name)
    if tensor is None or tensor.data_type != TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    if values.size not in (1, channels) or values.shape[-1:] not in ((), (values.size,)):
        return None
    return read_only(np.broadcast_to(values.reshape(-1), (channels,)))
