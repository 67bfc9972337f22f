"""Small classifiers that end in Sigmoids, and images with labels of which they tell most."""

import numpy as np
import onnx
from onnx.numpy_helper import from_array, to_array
from onnx_models import HEAD, SAME, STEM, STEM_SHAPES, conv, images, text_model

from onnxsemi._runtime.sessions import Session

BODY = STEM + conv("c1", "a", SAME) + "last = Relu (c1)\n" + HEAD.replace("scores =", "z =")


def sigmoid_net(labels, end="probs = Sigmoid (z)", output="[N,{}] probs", seed=0):
    """A net whose z says yes as often as no, and is of the size of 1."""
    shapes = {**STEM_SHAPES, "c1_w": (8, 6, 3, 3), "scores_w": (labels, 8), "scores_b": (labels,)}
    graph = f"net (float[N,3,8,8] image) => (float{output.format(labels)}) {{ {BODY} {end} }}"
    model = text_model(graph, shapes, seed=seed)
    z = logits_of(model, images(300, seed=9))
    for place, tensor in enumerate(model.graph.initializer):
        if tensor.name.startswith("scores"):
            values, scale = to_array(tensor), z.std(axis=0)
            centred = values - np.median(z, axis=0) if tensor.name == "scores_b" else values
            scaled = (centred.T / scale).T.astype(np.float32)
            model.graph.initializer[place].CopyFrom(from_array(scaled, tensor.name))
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def logits_of(model, pixels):
    """float64[N, L], from the graph before its end."""
    found = Session(with_output(model, "z").SerializeToString()).run({"image": pixels})["z"]
    return found.reshape(len(pixels), -1).astype(np.float64)


def with_output(model, name):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return onnx.shape_inference.infer_shapes(copy)


def told_labels(model, pixels, seed):
    """0 and 1, int64[N, L]: what the model says, one of ten turned round."""
    wrong = np.random.default_rng(seed).random((len(pixels), logits_of(model, pixels).shape[1]))
    return ((logits_of(model, pixels) > 0) ^ (wrong < 0.1)).astype(np.int64)


def save_sigmoid_net(folder, labels, counts=(160, 80)):
    """``model.onnx``, ``search.npz`` and ``report.npz``."""
    model = sigmoid_net(labels)
    onnx.save(model, folder / "model.onnx")
    for seed, (name, count) in enumerate(zip(("search", "report"), counts, strict=True), 1):
        pixels = images(count, seed=seed)
        np.savez(folder / f"{name}.npz", x=pixels, y=told_labels(model, pixels, seed))
    return model
