"""Moments of every layer's inputs in the float model, on calibration images without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.fact import fact
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.shapes import Shape, image_shapes
from onnxsemi._model.targets import Site
from onnxsemi._progress import Progress
from onnxsemi._rounding.im2col import Patches, patches_of
from onnxsemi._rounding.panels import Panels
from onnxsemi._rounding.second_moments import BlockSums, MomentSums
from onnxsemi._runtime.batch_sizes import BLOCK_IMAGES, CANDIDATE_ROWS, FEWEST_BLOCKS
from onnxsemi._runtime.runner import Batch, InOrder
from onnxsemi._runtime.sessions import Session


@dataclass(frozen=True, eq=False)
class ObservedLayer:
    """A layer whose inputs can be looked at.

    Attributes:
        site: The layer.
        inputs: Name of the input of each of its nodes.
        outputs: Name of the output of each.
        patches: How each takes columns from its input.
        tensor_bytes: Of its inputs for one block of images.
    """

    site: Site
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    patches: tuple[Patches, ...]
    tensor_bytes: int

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.site.layer.name

    @property
    def panels(self) -> Panels:
        """How its columns are cut."""
        return Panels.of(self.patches[0].groups, self.patches[0].size)

    @property
    def moment_bytes(self) -> int:
        """Of its second moments, float32[P, k, k]."""
        return 4 * len(self.panels) * self.panels.width**2

    @property
    def rounding_bytes(self) -> int:
        """What is held while it is rounded, from above: matrices, factors, a block of rows."""
        rows = 24 * CANDIDATE_ROWS * self.panels.width
        return 10 * self.moment_bytes + 32 * self.site.layer.weight.size + rows

    @property
    def rounding_work(self) -> int:
        """What rounding it takes, beside other layers: columns squared times rows, and a factor."""
        size, panels = self.panels.width, len(self.panels)
        return panels * size * size * (size + self.site.layer.channels) + 1

    def sums(self) -> MomentSums:
        """Nothing summed yet, for its inputs alone."""
        return MomentSums(self.patches[0].groups, self.patches[0].size)

    def block(
        self, sums: MomentSums, values: Mapping[str, Float32Array], seed: int, number: int
    ) -> list[BlockSums]:
        """What its inputs in a block of images add to such sums, part by part."""
        found = []
        for name, patches in zip(self.inputs, self.patches, strict=True):
            where = patches.positions(seed, number)
            for groups in patches.parts(len(values[name]), len(where)):
                columns = patches.columns(values[name], where, groups)
                found.append(sums.block(columns, groups=groups))
        return found


@fact
def observed_layers(classifier: Classifier, image: Shape) -> tuple[ObservedLayer, ...]:
    """The layers whose inputs can be looked at, in graph order.

    Args:
        classifier: The model.
        image: Shape of one image in the model's layout.
    """
    shapes, found = image_shapes(classifier, image), list[ObservedLayer]()
    for site in classifier.sites:
        users = classifier.users(site)
        patches = [patches_of(node, site, shapes) for node in users]
        known = tuple(p for p in patches if p is not None)
        if len(known) == len(users):
            inputs, outputs = (tuple(map(str, names)) for names in _ends(users))
            values = sum(int(np.prod(shapes[name])) for name in inputs)
            found.append(ObservedLayer(site, inputs, outputs, known, 4 * BLOCK_IMAGES * values))
    return tuple(found)


def layer_groups(layers: Sequence[ObservedLayer]) -> list[list[ObservedLayer]]:
    """Layers whose moments are summed together, in order."""
    return in_groups(layers, lambda layer: layer.moment_bytes + layer.tensor_bytes)


def input_moments(
    workload: Workload, layers: Sequence[ObservedLayer], seed: int, progress: Progress
) -> dict[str, MomentSums]:
    """Sums of the input columns of some layers, held all at once.

    Args:
        workload: The float model and calibration images.
        layers: Which layers.
        seed: Of the positions that are drawn.
        progress: Told of every image.
    """
    session = input_session(workload, layers)
    sums = {layer.name: layer.sums() for layer in layers}
    turns = {name: InOrder(own.add) for name, own in sums.items()}
    progress.start("inputs of the layers", len(workload.images))

    with workload.running() as runner:

        def look(item: tuple[int, Batch]) -> int:
            number, block = item
            pixels = images_of(workload, block)
            values = pixels | runner.run_rows(session, pixels)
            for layer in layers:
                turns[layer.name].give(number, layer.block(sums[layer.name], values, seed, number))
            return len(block)

        held = sum(layer.moment_bytes + layer.tensor_bytes for layer in layers)
        together = workload.together(held)
        for count in runner.map(look, enumerate(blocks(workload)), together):
            progress.step("", count)
    return sums


def input_session(workload: Workload, layers: Sequence[ObservedLayer]) -> Session:
    """Gives the inputs of some layers in the float model, but for the image."""
    image = workload.classifier.ends.image
    names = list(dict.fromkeys(n for layer in layers for n in layer.inputs if n != image.name))
    return workload.open(with_outputs(workload.classifier.proto, names).SerializeToString())


def blocks(workload: Workload) -> list[Batch]:
    """Blocks of images whose moments are summed together; they depend on no setting.

    Of few images the blocks are smaller: how much they differ says how far to trust their sum.
    """
    count = len(workload.images)
    rows = max(1, min(BLOCK_IMAGES, count // FEWEST_BLOCKS))
    return Batch(0, count).cut(workload.classifier.ends.image.batch or rows)


def images_of(workload: Workload, block: Batch) -> dict[str, Float32Array]:
    """The image input of a block."""
    return {workload.classifier.ends.image.name: workload.images.batch(block.start, block.stop)}


def _ends(nodes: Sequence[onnx.NodeProto]) -> tuple[list[str], list[str]]:
    return [node.input[0] for node in nodes], [node.output[0] for node in nodes]
