"""A small ViT and a small ConvNeXt for 224x224 images with seeded random weights.

As exporters write them: attention with one product for queries, keys and values, GELU by Erf,
LayerNormalization over the last axis. The layers of a block are those of the originals (Dosovitskiy
et al., ICLR 2021; Liu et al., CVPR 2022), their number and width are not.
"""

import math

import numpy as np
import onnx
from onnx import numpy_helper
from random_resnets import Network, classifier

SIDE = 224


class _Blocks(Network):
    """What both are made of. Tokens and pixels are rows: the channels are the last axis."""

    def constant(self, name: str, values: object, dtype: type = np.float32) -> str:
        """Append a constant."""
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def product(self, name: str, source: str, sizes: tuple[int, int]) -> str:
        """A MatMul of rows [.., I] with a weight [I, O], and a bias."""
        weight = self.weight(f"{name}.weight", sizes, 1 / math.sqrt(sizes[0]))
        bias = self.weight(f"{name}.bias", sizes[1:], 0.05)
        product = self.add("MatMul", f"{name}/MatMul", [source, weight])
        return self.add("Add", f"{name}/Add", [bias, product])

    def normal(self, name: str, source: str, width: int) -> str:
        """A LayerNormalization over the last axis."""
        scale = self.constant(f"{name}.scale", np.ones(width))
        return self.add(
            "LayerNormalization",
            name,
            [source, scale, self.weight(f"{name}.shift", (width,), 0.05)],
        )

    def mixed(self, name: str, source: str, width: int) -> str:
        """Two products with a GELU between, four times as wide."""
        up = self.product(f"{name}/up", source, (width, 4 * width))
        return self.product(f"{name}/down", self._gelu(f"{name}/gelu", up), (4 * width, width))

    def scores(self, source: str, width: int, classes: int) -> None:
        """The classifier, from [N, width]."""
        weight = self.weight("head.weight", (classes, width), 3 / math.sqrt(width))
        node = onnx.helper.make_node(
            "Gemm",
            [source, weight, self.weight("head.bias", (classes,), 0.05)],
            ["logits"],
            name="/head/Gemm",
            transB=1,
        )
        self.nodes.append(node)

    def _gelu(self, name: str, source: str) -> str:
        root, one, half = (
            self.constant(f"{name}.{number}", value)
            for number, value in (("root", math.sqrt(2)), ("one", 1), ("half", 0.5))
        )
        curved = self.add("Erf", f"{name}/Erf", [self.add("Div", f"{name}/Div", [source, root])])
        raised = self.add("Add", f"{name}/Add", [curved, one])
        product = self.add("Mul", f"{name}/Mul", [source, raised])
        return self.add("Mul", f"{name}/half", [product, half])


def random_vit(
    classes: int, *, depth: int = 6, width: int = 192, heads: int = 3
) -> onnx.ModelProto:
    """A ViT with patches of 16: `input` float32[N, 3, 224, 224] -> `logits` float32[N, classes]."""
    net, patch = _Blocks(0), 16
    tokens = (SIDE // patch) ** 2
    weight = net.weight("patches.weight", (width, 3, patch, patch), 1 / (patch * math.sqrt(3)))
    inputs = ["input", weight, net.weight("patches.bias", (width,), 0.05)]
    patches = net.add("Conv", "/patches/Conv", inputs, strides=[patch, patch])
    flat = net.add(
        "Reshape", "/flat", [patches, net.constant("flat", [0, width, tokens], np.int64)]
    )
    rows = net.add("Transpose", "/rows", [flat], perm=[0, 2, 1])
    position = net.weight("position", (1, tokens, width), 0.5)
    tensor = net.add("Add", "/position", [rows, position])
    net.constant("heads", [0, 0, 3, heads, width // heads], np.int64)
    net.constant("joined", [0, 0, width], np.int64)
    net.constant("first", 0, np.int64)
    net.constant("second", 1, np.int64)
    net.constant("third", 2, np.int64)
    net.constant("scale", 1 / math.sqrt(width // heads))
    for number in range(depth):
        name = f"/block{number}"
        normal = net.normal(f"{name}/normal1", tensor, width)
        attended = _attention(net, f"{name}/attention", normal, width)
        tensor = net.add("Add", f"{name}/Add1", [tensor, attended])
        normal = net.normal(f"{name}/normal2", tensor, width)
        tensor = net.add("Add", f"{name}/Add2", [tensor, net.mixed(f"{name}/mlp", normal, width)])
    last = net.normal("/normal", tensor, width)
    pooled = net.add("ReduceMean", "/pool", [last], axes=[1], keepdims=0)
    net.scores(pooled, width, classes)
    return classifier(net, "vit", classes)


def random_convnext(
    classes: int,
    *,
    depths: tuple[int, ...] = (2, 2, 4, 2),
    widths: tuple[int, ...] = (40, 80, 160, 320),
) -> onnx.ModelProto:
    """A ConvNeXt: `input` float32[N, 3, 224, 224] -> `logits` float32[N, classes]."""
    net, tensor, before, kernel = _Blocks(0), "input", 3, 4
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        name = f"/stage{stage}"
        weight = net.weight(
            f"{name}.weight", (width, before, kernel, kernel), 1 / (kernel * math.sqrt(before))
        )
        inputs = [tensor, weight, net.weight(f"{name}.bias", (width,), 0.05)]
        tensor = net.add("Conv", f"{name}/Conv", inputs, strides=[kernel, kernel])
        for number in range(depth):
            tensor = _convnext_block(net, f"{name}/block{number}", tensor, width)
        before, kernel = width, 2
    pooled = net.add("Flatten", "/flat", [net.add("GlobalAveragePool", "/pool", [tensor])])
    net.scores(net.normal("/normal", pooled, before), before, classes)
    return classifier(net, "convnext", classes)


def _attention(net: _Blocks, name: str, source: str, width: int) -> str:
    """Attention of [N, T, width] over its tokens."""
    product = net.product(f"{name}/qkv", source, (width, 3 * width))
    split = net.add("Reshape", f"{name}/heads", [product, "heads"])  # [N, T, 3, H, D]
    turned = net.add("Transpose", f"{name}/turned", [split], perm=[2, 0, 3, 1, 4])
    q, k, v = (
        net.add("Gather", f"{name}/{place}", [turned, place], axis=0)
        for place in ("first", "second", "third")
    )
    keys = net.add("Transpose", f"{name}/keys", [k], perm=[0, 1, 3, 2])
    scores = net.add(
        "Mul", f"{name}/scaled", [net.add("MatMul", f"{name}/scores", [q, keys]), "scale"]
    )
    shares = net.add("Softmax", f"{name}/shares", [scores], axis=-1)
    found = net.add("MatMul", f"{name}/found", [shares, v])
    back = net.add("Transpose", f"{name}/back", [found], perm=[0, 2, 1, 3])
    joined = net.add("Reshape", f"{name}/joined", [back, "joined"])
    return net.product(f"{name}/out", joined, (width, width))


def _convnext_block(net: _Blocks, name: str, source: str, width: int) -> str:
    """Depthwise 7x7, LayerNormalization over the channels, two products, layer scale, residual."""
    inputs = [
        source,
        net.weight(f"{name}.weight", (width, 1, 7, 7), 1 / 7),
        net.weight(f"{name}.bias", (width,), 0.05),
    ]
    depthwise = net.add("Conv", f"{name}/Conv", inputs, group=width, pads=[3] * 4)
    rows = net.add("Transpose", f"{name}/rows", [depthwise], perm=[0, 2, 3, 1])
    mixed = net.mixed(f"{name}/mlp", net.normal(f"{name}/normal", rows, width), width)
    scaled = net.add("Mul", f"{name}/scaled", [net.weight(f"{name}.gamma", (width,), 0.3), mixed])
    planes = net.add("Transpose", f"{name}/planes", [scaled], perm=[0, 3, 1, 2])
    return net.add("Add", f"{name}/Add", [source, planes])
