"""VGG-16 (Simonyan and Zisserman, ICLR 2015) with seeded random weights, 138 million of them.

Three quarters of them are in the first fully connected layer, of 25,088 inputs.
"""

import numpy as np
import onnx
from onnx import helper
from random_resnets import CLASSES, Network, classifier, spread_logits

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of the convolutions before each pooling."""
WIDTH = 4096


def random_vgg(seed: int = 0) -> onnx.ModelProto:
    """A VGG-16: `input` float32[N, 3, 224, 224] -> `logits` float32[N, 1000], opset 17, IR 8."""
    net, tensor, width = Network(seed), "input", 3
    for stage, (channels, count) in enumerate(STAGES):
        for number in range(count):
            name = f"/stage{stage}/conv{number}"
            tensor = net.relu(name, net.conv(name, tensor, (width, channels), 3))
            width = channels
        tensor = net.add("MaxPool", f"/pool{stage}", [tensor], kernel_shape=[2, 2], strides=[2, 2])
    tensor, width = net.add("Flatten", "/flatten", [tensor]), width * 7 * 7
    for name in ("fc1", "fc2"):
        weight = net.weight(f"{name}.weight", (WIDTH, width), np.sqrt(2 / width))
        bias = net.weight(f"{name}.bias", (WIDTH,), 0.05)
        tensor = net.relu(name, net.add("Gemm", f"/{name}/Gemm", [tensor, weight, bias], transB=1))
        width = WIDTH
    weight = net.weight("fc.weight", (CLASSES, width), 1 / np.sqrt(width))
    bias = net.weight("fc.bias", (CLASSES,), 0.0)
    net.nodes.append(
        helper.make_node("Gemm", [tensor, weight, bias], ["logits"], name="/fc/Gemm", transB=1)
    )
    model = classifier(net, "vgg16")
    spread_logits(model)
    return model
