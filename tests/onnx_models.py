"""Small classifiers with seeded weights, written as ONNX text, and the forms a file may give them.

Images are float32[N, 3, 8, 8]; there are 5 classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

Shapes = Mapping[str, tuple[int, ...]]

IMAGE = "float[N,3,8,8] image"
SCORES = "float[N,5] scores"
SAME = "pads = [1,1,1,1]"  # attribute that keeps the size of an image under a 3x3 kernel


@dataclass(frozen=True)
class Net:
    """A classifier and what is to be found in it.

    Attributes:
        body: Its nodes as ONNX text; each is called after its output.
        shapes: Weight name -> shape.
        hidden: Layers that the paper's policy quantizes, in order.
        others: Other weighted layer -> its part in the network.
        image: Its input.
        scores: Its output.
    """

    body: str
    shapes: Shapes
    hidden: tuple[str, ...] = ()
    others: Mapping[str, str] | None = None
    image: str = IMAGE
    scores: str = SCORES

    def model(self, opset: int = 17, seed: int = 0) -> onnx.ModelProto:
        """The checked model, its weights drawn anew from the seed."""
        text = f"net ({self.image}) => ({self.scores}) {{ {self.body} }}"
        model = text_model(text, self.shapes, opset=opset, seed=seed)
        for node in model.graph.node:
            node.name = node.output[0]
        return model


def text_model(graph: str, shapes: Shapes, *, opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """A checked model from the ONNX text of its graph, with seeded weights.

    The IR version is the lowest for the opset, but not below 4, where weights need be no inputs.
    """
    imports = [helper.make_opsetid("", opset)]
    ir_version = max(4, helper.find_min_ir_version_for(imports, ignore_unknown=True))
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
    model = parser.parse_model(f"{header} {graph}")
    model.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in weights(shapes, seed).items()
    )
    onnx.checker.check_model(model)
    return model


def weights(shapes: Shapes, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Normal values that keep the size of activations; those of a ``*_var`` are variances."""
    rng = np.random.default_rng(seed)
    values: dict[str, NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        fan_in = max(1, int(np.prod(shape[1:])))
        drawn = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        values[name] = np.float32(0.5) + np.abs(drawn) if name.endswith("_var") else drawn
    return values


def images(count: int, shape: tuple[int, ...] = (3, 8, 8), seed: int = 0) -> NDArray[np.float32]:
    """Normal noise: float32[count, *shape]."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def conv(out: str, taken: str, *attributes: str, bias: bool = False) -> str:
    """ONNX text of a convolution with weight ``out_w`` (and bias ``out_b``)."""
    return weighted("Conv", out, taken, *attributes, bias=bias)


def weighted(op: str, out: str, taken: str, *attributes: str, bias: bool = False) -> str:
    """ONNX text of a weighted node with weight ``out_w`` (and bias ``out_b``)."""
    listed = f"<{', '.join(attributes)}>" if attributes else ""
    return f"{out} = {op} {listed} ({taken}, {out}_w{f', {out}_b' if bias else ''})\n"


def normalization(out: str, taken: str) -> str:
    """ONNX text of a BatchNormalization whose parameters are called after its output."""
    return f"{out} = BatchNormalization ({taken}, {out}_scale, {out}_b, {out}_mean, {out}_var)\n"


def normalization_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters of a BatchNormalization."""
    return {f"{name}_{part}": (channels,) for part in ("scale", "b", "mean", "var")}


STEM = conv("stem", "image", SAME, bias=True) + "a = Relu (stem)\n"
STEM_SHAPES = {"stem_w": (6, 3, 3, 3), "stem_b": (6,)}
HEAD = """
    pooled = GlobalAveragePool (last)
    flat = Flatten (pooled)
    scores = Gemm <transB = 1> (flat, scores_w, scores_b)
"""


def head_shapes(features: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of ``HEAD``."""
    return {"scores_w": (5, features), "scores_b": (5,)}


ENDS = {"stem": "stem", "scores": "Gemm"}
PROJECTION_SHAPES = {
    **STEM_SHAPES,
    "c1_w": (8, 6, 3, 3),
    "c2_w": (8, 8, 3, 3),
    "short_w": (8, 6, 1, 1),
    **head_shapes(8),
}
PROJECTION_BRANCHES = (
    conv("c1", "a", SAME, "strides = [2,2]")
    + "c1r = Relu (c1)\n"
    + conv("c2", "c1r", SAME)
    + conv("short", "a", "strides = [2,2]")
)


def projection(joining: str, head: str = HEAD) -> Net:
    """A residual block with a 1x1 shortcut."""
    return Net(
        STEM + PROJECTION_BRANCHES + f"sum = {joining}\n last = Relu (sum)\n" + head,
        PROJECTION_SHAPES,
        ("c1", "c2"),
        {**ENDS, "short": "projection shortcut"},
    )


IDENTITY = Net(
    STEM
    + conv("c1", "a", SAME)
    + "c1r = Relu (c1)\n"
    + conv("c2", "c1r", SAME, bias=True)
    + "sum = Add (c2, a)\n last = Relu (sum)\n"
    + HEAD,
    {
        **STEM_SHAPES,
        "c1_w": (8, 6, 3, 3),
        "c2_w": (6, 8, 3, 3),
        "c2_b": (6,),
        **head_shapes(6),
    },
    ("c1", "c2"),
    ENDS,
)
BOTTLENECK = Net(
    STEM
    + conv("narrow", "a")
    + conv("middle", "narrow", SAME)
    + conv("wide", "middle")
    + conv("short", "a")
    + "sum = Add (wide, short)\n b = Relu (sum)\n"
    + conv("narrow2", "b")
    + conv("middle2", "narrow2", SAME)
    + conv("wide2", "middle2")
    + "sum2 = Add (wide2, b)\n last = Relu (sum2)\n"
    + HEAD,
    {
        **STEM_SHAPES,
        "narrow_w": (4, 6, 1, 1),
        "middle_w": (4, 4, 3, 3),
        "wide_w": (8, 4, 1, 1),
        "short_w": (8, 6, 1, 1),
        "narrow2_w": (4, 8, 1, 1),
        "middle2_w": (4, 4, 3, 3),
        "wide2_w": (8, 4, 1, 1),
        **head_shapes(8),
    },
    ("narrow", "middle", "wide", "narrow2", "middle2", "wide2"),
    {**ENDS, "short": "projection shortcut"},
)
SEPARABLE = Net(
    STEM
    + conv("depth", "a", SAME, "group = 6")
    + conv("point", "depth")
    + "last = Relu (point)\n"
    + HEAD,
    {**STEM_SHAPES, "depth_w": (6, 1, 3, 3), "point_w": (8, 6, 1, 1), **head_shapes(8)},
    ("depth", "point"),
    ENDS,
)
FULLY_CONVOLUTIONAL = Net(
    STEM
    + conv("c1", "a", SAME)
    + "c1r = Relu (c1)\n"
    + conv("classes", "c1r", bias=True)
    + "mean = GlobalAveragePool (classes)\n scores = Flatten (mean)\n",
    {**STEM_SHAPES, "c1_w": (8, 6, 3, 3), "classes_w": (5, 8, 1, 1), "classes_b": (5,)},
    ("c1",),
    {"stem": "stem", "classes": "classifier"},
)
LOGITS_OF_CONVOLUTION = Net(
    STEM + conv("c1", "a", SAME) + "p = GlobalAveragePool (c1)\n" + conv("scores", "p", bias=True),
    {**STEM_SHAPES, "c1_w": (8, 6, 3, 3), "scores_w": (5, 8, 1, 1), "scores_b": (5,)},
    ("c1",),
    {"stem": "stem", "scores": "classifier"},
    scores="float[N,5,1,1] scores",
)
MATMUL = Net(
    STEM
    + conv("c1", "a", SAME)
    + "pooled = GlobalAveragePool (c1)\n flat = Flatten (pooled)\n"
    + weighted("MatMul", "scores", "flat"),
    {**STEM_SHAPES, "c1_w": (8, 6, 3, 3), "scores_w": (8, 5)},
    ("c1",),
    {"stem": "stem", "scores": "MatMul"},
)
TRANSPOSED = Net(
    STEM + weighted("ConvTranspose", "up", "a") + conv("c1", "up") + "last = Relu (c1)\n" + HEAD,
    {**STEM_SHAPES, "up_w": (6, 8, 2, 2), "c1_w": (8, 8, 1, 1), **head_shapes(8)},
    ("c1",),
    {**ENDS, "up": "ConvTranspose"},
)
DYNAMIC_FLATTEN = projection(
    "Add (c2, short)",
    """
    pooled = GlobalAveragePool (last)
    shape = Shape (image)
    zero = Constant <value = int64[1] {0}> ()
    rest = Constant <value = int64[1] {-1}> ()
    batch = Gather (shape, zero)
    flat_shape = Concat <axis = 0> (batch, rest)
    flat = Reshape (pooled, flat_shape)
    scores = Gemm <transB = 1> (flat, scores_w, scores_b)
    """,
)
SHAPE_OF_THE_IMAGE = Net(
    """
    positive = Relu (image)
    size = Shape (positive)
    pixels = Expand (image, size)
    """
    + STEM.replace("image", "pixels")
    + conv("c1", "a", SAME)
    + "sum = Add (c1, a)\n last = Relu (sum)\n"
    + HEAD,
    {**STEM_SHAPES, "c1_w": (6, 6, 3, 3), **head_shapes(6)},
    ("c1",),
    ENDS,
)
IMAGE_CROSSES = Net(
    STEM
    + conv("c1", "a", SAME)
    + "joined = Concat <axis = 1> (c1, image)\n"
    + conv("c2", "joined", SAME)
    + "last = Relu (c2)\n"
    + HEAD,
    {**STEM_SHAPES, "c1_w": (6, 6, 3, 3), "c2_w": (8, 9, 3, 3), **head_shapes(8)},
    ("c1", "c2"),
    ENDS,
)
FIXED_BATCH = Net(
    IDENTITY.body.replace(
        "flat = Flatten (pooled)",
        "four = Constant <value = int64[2] {4, 6}> ()\n flat = Reshape (pooled, four)",
    ),
    IDENTITY.shapes,
    IDENTITY.hidden,
    ENDS,
    image="float[4,3,8,8] image",
    scores="float[4,5] scores",
)
NETS = {
    "identity": IDENTITY,
    "projection": projection("Add (c2, short)"),
    "projection-first": projection("Add (short, c2)"),
    "projection-sum": projection("Sum (c2, short)"),
    "bottleneck": BOTTLENECK,
    "separable": SEPARABLE,
    "fully-convolutional": FULLY_CONVOLUTIONAL,
    "logits-of-convolution": LOGITS_OF_CONVOLUTION,
    "matmul": MATMUL,
    "transposed": TRANSPOSED,
    "dynamic-flatten": DYNAMIC_FLATTEN,
    "shape-of-the-image": SHAPE_OF_THE_IMAGE,
    "image-crosses": IMAGE_CROSSES,
    "fixed-batch": FIXED_BATCH,
}

NORMALIZED = Net(
    conv("stem", "image", SAME)
    + normalization("stem_n", "stem")
    + "a = Relu (stem_n)\n"
    + conv("c1", "a", SAME, bias=True)
    + normalization("c1_n", "c1")
    + "sum = Add (c1_n, a)\n last = Relu (sum)\n"
    + HEAD,
    {
        "stem_w": (6, 3, 3, 3),
        **normalization_shapes("stem_n", 6),
        "c1_w": (6, 6, 3, 3),
        "c1_b": (6,),
        **normalization_shapes("c1_n", 6),
        **head_shapes(6),
    },
    ("c1",),
    ENDS,
)
"""Every BatchNormalization follows a convolution."""

TIED = Net(
    STEM
    + "t1 = Conv <pads = [1,1,1,1]> (a, tied_w)\n"
    + "t2 = Conv <pads = [1,1,1,1]> (t1, tied_w)\n"
    + conv("c3", "t2", SAME)
    + "last = Relu (c3)\n"
    + HEAD,
    {**STEM_SHAPES, "tied_w": (6, 6, 3, 3), "c3_w": (8, 6, 3, 3), **head_shapes(8)},
    ("t1", "c3"),
    ENDS,
)
"""Two convolutions share one weight."""


ATAN = Net(
    STEM
    + conv("c1", "a", SAME)
    + "e = Atan (c1)\n"
    + conv("c2", "e", SAME)
    + "last = Relu (c2)\n"
    + HEAD,
    {**STEM_SHAPES, "c1_w": (6, 6, 3, 3), "c2_w": (8, 6, 3, 3), **head_shapes(8)},
)
"""An operator without a reverse rule between two layers."""


def with_constant_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, its weights as Constant nodes."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.initializer[:], changed.graph.node[:]
    changed.graph.node.extend(
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    )
    changed.graph.node.extend(model.graph.node)
    return changed


def with_weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in IR 3, which lists every initializer among the inputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.ir_version = 3
    changed.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    )
    return changed


def with_local_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, each 3x3 Conv without a bias a call of ``local.Convolve``."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    opset = [entry for entry in model.opset_import if entry.domain == ""]
    body = [helper.make_node("Conv", ["x", "w"], ["y"], "inner", pads=[1, 1, 1, 1])]
    function = helper.make_function("local", "Convolve", ["x", "w"], ["y"], body, opset)
    changed.functions.append(function)
    changed.opset_import.append(helper.make_opsetid("local", 1))
    changed.ir_version = max(8, model.ir_version)
    for node in changed.graph.node:
        if node.op_type == "Conv" and len(node.input) == 2:
            node.op_type, node.domain = "Convolve", "local"
            del node.attribute[:]
    return changed


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float16 weights, input and output."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        narrow = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return changed


TWO = Net(
    IDENTITY.body + "features = Identity (flat)",
    IDENTITY.shapes,
    scores="float[N,5] scores, float[N,6] features",
)
