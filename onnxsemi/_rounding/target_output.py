"""What each layer of a plan brings close to the float model's, and the way from layer to layer.

A layer's target is its output; or, where its output is only added to a shortcut, the sum.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.fact import fact
from onnxsemi._model.segments import Segment, find_steps, part_between
from onnxsemi._model.shapes import Shape, image_shapes
from onnxsemi._plan.bits import BitPlan
from onnxsemi._rounding.observed_layers import ObservedLayer, observed_layers
from onnxsemi._rounding.second_moments import BlockSums, MomentSums
from onnxsemi._runtime.batch_sizes import RUN_BYTES, SEEN_IMAGES
from onnxsemi._runtime.runner import Runner
from onnxsemi._runtime.sessions import Session


@dataclass(frozen=True, eq=False)
class TargetOutput:
    """A layer and the tensor that it brings close to the float model's.

    Attributes:
        layer: The layer, of one node.
        tensor: Its output, or the sum that its output only goes into.
        beside: What is added to its output there; None if the tensor is its output.
        bias: float32[O], its bias; None if that cannot be changed.
        held: Bytes of the tensor for the images of one run.
    """

    layer: ObservedLayer
    tensor: str
    beside: str | None
    bias: Float32Array | None
    held: int

    @property
    def sum_bytes(self) -> int:
        """Of the sums of one block of images."""
        return self.layer.moment_bytes + 4 * self.layer.site.layer.weight.size

    @property
    def source(self) -> str:
        """Name of the layer's input."""
        return self.layer.inputs[0]

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of what :meth:`block` needs."""
        if self.bias is None:
            return (self.source, self.tensor)
        return (self.source,) if self.beside is None else (self.source, self.beside)

    def drawn(self, values: Float32Array, positions: Int64Array) -> Float32Array:
        """Values of the tensor, float32[N, ...], at some positions: float32[O, N, P]."""
        found = self.layer.patches[0].outputs_at(values, positions)
        return found.reshape(len(found), len(values), -1)

    def block(
        self,
        sums: MomentSums,
        values: Mapping[str, Float32Array],
        positions: Int64Array,
        wanted: Float32Array,
    ) -> list[BlockSums]:
        """What is seen at some positions as long as the layer is float32, part by part.

        Args:
            sums: Of the layer's inputs, and of what its tensor is short of.
            values: What is seen.
            positions: int64[P].
            wanted: float32[O, S], the tensor in the float model.
        """
        found = []
        patches, weight = self.layer.patches[0], self.layer.site.layer.weight
        inputs, each = values[self.source], len(weight) // patches.groups
        if self.bias is None:
            wanted = wanted - patches.outputs_at(values[self.tensor], positions)
        elif self.beside is not None:
            wanted = wanted - patches.outputs_at(values[self.beside], positions)
        for groups in patches.parts(len(inputs), len(positions)):
            columns = patches.columns(inputs, positions, groups)
            outputs = slice(groups.start * each, groups.stop * each)
            short = wanted[outputs]
            if self.bias is not None:
                given = patches.products(weight[outputs], columns)
                short = short - (given + self.bias[outputs, None])
            found.append(sums.block(columns, short, groups))
        return found


@dataclass(frozen=True, eq=False)
class LayerStep:
    """The layers that are rounded before the model is gone on with.

    Attributes:
        target_outputs: The layers, each with the part of the model that gives what it lacks.
        onward: The part that gives what is not there of what the next step takes.
        keeps: Names of what the next step takes.
    """

    target_outputs: tuple[tuple[TargetOutput, Segment], ...]
    onward: Segment
    keeps: tuple[str, ...]


def drawn_outputs(
    layers: Sequence[TargetOutput],
    pixels: Mapping[str, Float32Array],
    session: Session,
    runner: Runner,
    drawn: tuple[int, int],
) -> list[Float32Array]:
    """Values of tensors of the float model at the positions drawn of a block: float32[O, S] each.

    Args:
        layers: Whose tensors.
        pixels: The images of the block.
        session: Gives the tensors.
        runner: Runs it, on few images at once: few values of each are kept.
        drawn: Seed of the positions, and number of the block.
    """
    positions = [layer.layer.patches[0].positions(*drawn) for layer in layers]
    count, parts = len(next(iter(pixels.values()))), list[list[Float32Array]]()
    fitting = SEEN_IMAGES * RUN_BYTES // max(1, sum(layer.held for layer in layers))
    for some in runner.batches(count, max(1, min(SEEN_IMAGES, fitting))):
        given = {name: rows[some.start : some.stop] for name, rows in pixels.items()}
        values = given | runner.run_rows(session, given)
        each = zip(layers, positions, strict=True)
        parts.append([layer.drawn(values[layer.tensor], places) for layer, places in each])
    joined = (np.concatenate(own, axis=1) for own in zip(*parts, strict=True))
    return [own.reshape(len(own), -1) for own in joined]


@fact
def find_target_outputs(classifier: Classifier, image: Shape) -> tuple[TargetOutput, ...]:
    """What each layer of one node brings close to the float model's, in graph order."""
    layers, shapes = observed_layers(classifier, image), image_shapes(classifier, image)
    return tuple(
        _target_output(classifier, one, shapes) for one in layers if len(one.site.nodes) == 1
    )


def _target_output(
    classifier: Classifier, layer: ObservedLayer, shapes: Mapping[str, Shape]
) -> TargetOutput:
    """Of a layer's output, or of the sum that is the only use of it."""
    index = classifier.index
    tensor, beside = layer.outputs[0], None
    users = index.consumers.get(tensor, [])
    if len(users) == 1:
        node = index.graph.node[users[0]]
        both = len(node.input) == 2 and len(set(node.input)) == 2
        same = all(shapes.get(n) == shapes.get(tensor) for n in (*node.input, *node.output))
        if node.op_type in ("Add", "Sum") and both and same:
            (beside,) = (str(name) for name in node.input if name != tensor)
            tensor = str(node.output[0])
    rows = classifier.ends.image.batch or SEEN_IMAGES
    held = 4 * rows * int(np.prod(shapes[tensor]))
    return TargetOutput(layer, tensor, beside, correctable_bias(classifier, layer.site), held)


@fact
def find_way(classifier: Classifier, image: Shape) -> tuple[LayerStep, ...]:
    """The way through the model, layer after layer; behind the last one nothing is needed."""
    segments, target_outputs = find_steps(classifier, image), find_target_outputs(classifier, image)
    found = []
    for place, segment in enumerate(segments):
        takes = segments[place - 1].gives if place else (classifier.ends.image.name,)
        keeps = segment.gives if place + 1 < len(segments) else ()

        def part(names: Iterable[str], takes: Sequence[str] = takes) -> Segment:
            return part_between(classifier, takes, [n for n in names if n not in takes])

        inside = tuple(
            (target_output, part(target_output.seen))
            for target_output in target_outputs
            if target_output.layer.name in segment.layers
        )
        found.append(LayerStep(inside, part(keeps), keeps))
    return tuple(found)


def same_bits(one: BitPlan, other: BitPlan, layers: Iterable[str]) -> bool:
    """Whether two plans give some layers the same bits."""
    return all((one.bits[name] == other.bits[name]).all() for name in layers)
