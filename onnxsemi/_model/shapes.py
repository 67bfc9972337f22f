"""Shape of every tensor, and of one image's part of it, found by running the model.

Running it is surer than inferring: shapes that the graph computes (Shape, Gather, Reshape) are
followed too. The model is run on one image and on two; the axis that grows with them holds the
batch, perhaps with more: [N * windows, tokens, channels], where the rows of an image stand side by
side, or [tokens * N, channels], where the images take turns. Which of the two it is, the values
tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxsemi._arrays import Float32Array
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.fact import fact
from onnxsemi._model.head import ImageInput
from onnxsemi._model.inference import inferred
from onnxsemi._model.outputs import with_outputs
from onnxsemi._runtime.sessions import Session

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Extent:
    """Size of a tensor.

    Attributes:
        sizes: Its shape for one image.
        batch: The axis that grows with the number of images; None if there is none.
        turns: Whether the images take turns along it, instead of standing side by side.
        mixed: Whether the size depends on the number of images in another way.
    """

    sizes: Shape
    batch: int | None
    turns: bool = False
    mixed: bool = False

    @property
    def shape(self) -> Shape:
        """The shape for any number of images, -1 for the axis that grows; several -1 if mixed."""
        if self.mixed:
            return (-1,) * max(2, len(self.sizes))
        return tuple(-1 if axis == self.batch else size for axis, size in enumerate(self.sizes))

    @property
    def row(self) -> Shape | None:
        """Shape of an image's row if the first axis is the batch and nothing else, or None."""
        return self.sizes[1:] if self.batch == 0 and self.sizes[0] == 1 else None


@fact
def extents(classifier: Classifier, image: Shape) -> Mapping[str, Extent]:
    """Size of each float32 tensor.

    Args:
        classifier: The model.
        image: Shape of one image in the model's layout.
    """
    return find_extents(classifier.proto, classifier.ends.image, image)


@fact
def image_shapes(classifier: Classifier, image: Shape) -> Mapping[str, Shape]:
    """Shape of one row of each float32 tensor whose first axis is the batch.

    Args:
        classifier: The model.
        image: Shape of one image in the model's layout.

    Returns:
        Tensor name -> shape without the batch axis; the image included.
    """
    found = extents(classifier, image).items()
    return {name: extent.row for name, extent in found if extent.row is not None}


def find_extents(
    model: onnx.ModelProto,
    source: ImageInput,
    image: Shape,
    known: Mapping[str, Extent] = MappingProxyType({}),
) -> Mapping[str, Extent]:
    """Size of each float32 tensor of a model that is no classifier, or not yet one.

    Args:
        model: The model; it is run if there is a tensor whose size is not known.
        source: Its input.
        image: Shape of one image in the model's layout.
        known: Sizes of tensors, of this model or of others that have them under the same names.
    """
    there = _float_tensors(model)
    new = [name for name in there if name not in known]
    found = dict(known) | (_found_by_running(model, source, image, new) if new else {})
    return {name: found[name] for name in (source.name, *there)}


def _found_by_running(
    model: onnx.ModelProto, source: ImageInput, image: Shape, names: list[str]
) -> dict[str, Extent]:
    """Sizes of some tensors, and of the input."""
    session = Session(_with_shapes(model, names), optimize=False)
    batches = (source.batch,) if source.batch else (1, 2)
    pixels = np.random.default_rng(0).normal(size=(batches[-1], *image)).astype(np.float32)
    feeds = [{source.name: pixels[:batch]} for batch in batches]
    runs = [session.run(feed) for feed in feeds]
    found = {source.name: Extent((1, *image), 0)}
    for name in names:
        shapes = [tuple(run[_shape_name(name)].tolist()) for run in runs]
        found[name] = _of_fixed(shapes[0], source.batch) if source.batch else _of_two(*shapes)
    several = [n for n, e in found.items() if e.batch is not None and e.sizes[e.batch] > 1]
    if several:
        session = Session(with_outputs(model, several).SerializeToString(), optimize=False)
        one, two = (session.run(feed) for feed in feeds)
        for name in several:
            found[name] = _in_order(found[name], one[name], two[name])
    return found


def _float_tensors(model: onnx.ModelProto) -> list[str]:
    graph = inferred(model)
    values = (*graph.value_info, *graph.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return [name for node in model.graph.node for name in node.output if name in floats]


def _of_fixed(shape: Shape, batch: int) -> Extent:
    """A model of a fixed batch says no more than that the first axis has its size."""
    return Extent((1, *shape[1:]), 0) if shape[:1] == (batch,) else Extent(shape, None)


def _of_two(one: Shape, two: Shape) -> Extent:
    """From the shapes for one image and for two."""
    if one == two:
        return Extent(one, None)
    grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
    if len(one) == len(two) and len(grown) == 1 and two[grown[0]] == 2 * one[grown[0]]:
        return Extent(one, grown[0])
    return Extent(one, None, mixed=True)


def _in_order(extent: Extent, one: Float32Array, two: Float32Array) -> Extent:
    """How the rows of the first of two images stand among those of both."""
    assert extent.batch is not None
    rows, moved = np.moveaxis(one, extent.batch, 0), np.moveaxis(two, extent.batch, 0)
    side_by_side, turns = (
        np.abs(rows - part).max(initial=0) for part in (moved[: len(rows)], moved[::2])
    )
    return replace(extent, turns=bool(turns < side_by_side))


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
    return f"onnxsemi/shape of {name}"  # exporters have names such as view_3/shape
