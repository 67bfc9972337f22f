"""ResNet-18 to -152, and wide ones, for 224x224 images with seeded random weights.

The standard architecture (7x7 stem with stride 2, 3x3 max pooling, four stages, projection
shortcuts, stride on the 3x3 convolution of a bottleneck), BatchNormalization folded. Weights are He
normal; the last convolution of each residual branch is scaled down, so that activations neither
vanish nor explode; the classifier is centred and scaled on a few images, so that answers differ
between images and logits spread by about 3.
"""

from functools import partial

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
CLASSES = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BRANCH_SCALE = 0.3
_LOGIT_SPREAD = 3.0


class Network:
    """Nodes and weights under construction."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op_type: str, name: str, inputs: list[str], **attributes: object) -> str:
        """Append a node; gives the name of its output."""
        output = f"{name}_output"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def weight(self, name: str, shape: tuple[int, ...], deviation: float) -> str:
        """Append a normally distributed weight."""
        values = self._random.normal(0, deviation, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(
        self, name: str, source: str, sizes: tuple[int, int], kernel: int, **options: float
    ) -> str:
        """A convolution [O, I, k, k] with bias, "same" padding; options: stride, scale."""
        (inputs, outputs), stride = sizes, int(options.get("stride", 1))
        deviation = options.get("scale", 1.0) * np.sqrt(2 / (inputs * kernel**2))
        shape = (outputs, inputs, kernel, kernel)
        names = [
            self.weight(f"{name}.weight", shape, deviation),
            self.weight(f"{name}.bias", (outputs,), 0.05),
        ]
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return self.add("Conv", f"{name}/Conv", [source, *names], pads=pads, strides=strides)

    def relu(self, name: str, source: str) -> str:
        """A Relu."""
        return self.add("Relu", f"{name}/Relu", [source])


def random_resnet(depth: int, seed: int = 0, *, wider: int = 1) -> onnx.ModelProto:
    """A ResNet: `input` float32[N, 3, 224, 224] -> `logits` float32[N, 1000], opset 17, IR 8.

    Args:
        depth: 18, 34, 50, 101 or 152.
        seed: Seed of the weights.
        wider: How many times as wide the 3x3 convolutions of bottlenecks are: 2 for a Wide ResNet.

    Raises:
        ValueError: If the depth is another.
    """
    if depth not in BLOCKS:
        raise ValueError(f"depth {depth}: only {sorted(BLOCKS)}")
    net = Network(seed)
    tensor = net.relu("/stem", net.conv("/conv1", "input", (3, 64), 7, stride=2))
    tensor = net.add(
        "MaxPool", "/maxpool", [tensor], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]
    )
    block, width = (partial(_bottleneck, wider=wider) if depth >= 50 else _basic), 64
    for stage, count in enumerate(BLOCKS[depth]):
        for number in range(count):
            name = f"/layer{stage + 1}/layer{stage + 1}.{number}"
            stride = 2 if stage and not number else 1
            tensor, width = block(net, name, tensor, width, (64 * 2**stage, stride))
    tensor = net.add("GlobalAveragePool", "/avgpool", [tensor])
    tensor = net.add("Flatten", "/flatten", [tensor])
    weight = net.weight("fc.weight", (CLASSES, width), 1 / np.sqrt(width))
    bias = net.weight("fc.bias", (CLASSES,), 0.0)
    net.nodes.append(
        helper.make_node("Gemm", [tensor, weight, bias], ["logits"], name="/fc/Gemm", transB=1)
    )
    model = classifier(net, f"resnet{depth}")
    spread_logits(model)
    return model


def normalized(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8[N, H, W, 3] -> float32[N, 3, H, W] with the usual mean and deviation."""
    values = (images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)


def random_images(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Seeded images, coarse structure and noise, uint8[N, 224, 224, 3], and labels int64[N]."""
    random = np.random.default_rng(seed)
    images = np.empty((count, 224, 224, 3), np.uint8)
    for image in images:
        coarse = random.uniform(0, 255, (7, 7, 3)).repeat(32, axis=0).repeat(32, axis=1)
        image[:] = np.clip(coarse + random.normal(0, 20, image.shape), 0, 255)
    return images, random.integers(0, CLASSES, count)


def _basic(
    net: Network, name: str, source: str, inputs: int, shape: tuple[int, int]
) -> tuple[str, int]:
    outputs, stride = shape
    branch = net.conv(f"{name}/conv1", source, (inputs, outputs), 3, stride=stride)
    branch = net.relu(f"{name}/relu1", branch)
    branch = net.conv(f"{name}/conv2", branch, (outputs, outputs), 3, scale=_BRANCH_SCALE)
    return _joined(net, name, branch, source, (inputs, outputs, stride)), outputs


def _bottleneck(
    net: Network, name: str, source: str, inputs: int, shape: tuple[int, int], wider: int
) -> tuple[str, int]:
    outputs, stride = 4 * shape[0], shape[1]
    middle = wider * shape[0]
    branch = net.relu(f"{name}/relu1", net.conv(f"{name}/conv1", source, (inputs, middle), 1))
    branch = net.conv(f"{name}/conv2", branch, (middle, middle), 3, stride=stride)
    branch = net.relu(f"{name}/relu2", branch)
    branch = net.conv(f"{name}/conv3", branch, (middle, outputs), 1, scale=_BRANCH_SCALE)
    return _joined(net, name, branch, source, (inputs, outputs, stride)), outputs


def _joined(net: Network, name: str, branch: str, source: str, shape: tuple[int, int, int]) -> str:
    inputs, outputs, stride = shape
    if inputs != outputs or stride > 1:
        sizes = (inputs, outputs)
        source = net.conv(f"{name}/downsample", source, sizes, 1, stride=stride, scale=0.7)
    return net.relu(f"{name}/out", net.add("Add", f"{name}/Add", [branch, source]))


def classifier(net: Network, name: str, classes: int = CLASSES) -> onnx.ModelProto:
    """The checked model of a network from `input` to `logits`."""
    ends = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes]),
    ]
    graph = helper.make_graph(net.nodes, name, ends[:1], ends[1:], net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def spread_logits(model: onnx.ModelProto) -> None:
    """Centre and scale the classifier so that images get different answers."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images, _ = random_images(16, seed=1)
    logits = session.run(None, {"input": normalized(images)})[0]
    scale = _LOGIT_SPREAD / (logits - logits.mean(axis=0)).std()
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name == "fc.weight":
            tensor.CopyFrom(numpy_helper.from_array(values * np.float32(scale), tensor.name))
        elif tensor.name == "fc.bias":
            centred = (-logits.mean(axis=0) * scale).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(centred, tensor.name))
