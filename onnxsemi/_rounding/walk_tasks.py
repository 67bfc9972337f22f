"""The tasks of which the rounding of a plan is made on many machines, each a function of its parts.

They are put together in :mod:`onnxsemi._rounding.spread_walk`.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from onnxsemi._arrays import Float32Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.segments import Segment, segment_model
from onnxsemi._quantizer.plan_codes import LayerCodes
from onnxsemi._rounding.aimed_layer import AimedLayer, LayerRequest, rounded_layer
from onnxsemi._rounding.observed_layers import images_of
from onnxsemi._rounding.second_moments import BlockSums, MomentSums
from onnxsemi._rounding.target_output import (
    TargetOutput,
    drawn_outputs,
    find_target_outputs,
    find_way,
)
from onnxsemi._runtime.runner import Batch
from onnxsemi._runtime.sessions import Session

Tensors = Mapping[str, Sequence[Float32Array]]
"""Name -> its values for each block of a share."""
Codes = Mapping[str, LayerCodes]
"""Layer -> what it was rounded to."""


@dataclass(frozen=True, eq=False)
class Look:
    """A look at a layer by those who have some blocks of images.

    Its methods are tasks.

    Attributes:
        step: Number of the layer's step on the way through the model.
        place: Its place in the step.
        seed: Of the positions that are drawn.
        parts: In how many parts the rows of its products are summed, each by one worker.
    """

    step: int
    place: int
    seed: int
    parts: int = 1

    def parted(self, *given: Any) -> list[Any]:
        """:meth:`sums` of a wide layer: those of each block without products, and rows of these."""
        every = [block.split(self.parts) for (block,) in self.sums(*given)]
        rows = zip(*(own for _, own in every), strict=True)
        return [[[rest] for rest, _ in every], *map(list, rows)]

    def sums(
        self,
        workload: Workload,
        blocks: Mapping[int, Batch],
        there: Tensors,
        wanted: Tensors,
        codes: Codes,
    ) -> list[list[BlockSums]]:
        """Sums of each block, which are not added yet.

        Args:
            workload: The images.
            blocks: Number of each block among all -> where its images lie among the workload's.
            there: What the step takes, but for the image.
            wanted: The float model's target outputs.
            codes: Of the layers that are rounded so far.
        """
        target_output, part = self._target(workload)
        name, empty, found = target_output.layer.name, self._nothing(workload), []
        session = _session(workload, part, codes) if part.gives else None
        names = [name for name in target_output.seen if name not in part.gives]
        with workload.running() as runner:
            for place, (number, block) in enumerate(blocks.items()):
                values = _taken(workload, names, there, place, block)
                if session is not None:
                    given = _taken(workload, part.takes, there, place, block)
                    values |= given | runner.run_rows(session, given)
                positions = target_output.layer.patches[0].positions(self.seed, number)
                found.append(target_output.block(empty, values, positions, wanted[name][place]))
        return found

    def total(
        self, workload: Workload, total: MomentSums | None, sums: Sequence[list[list[BlockSums]]]
    ) -> MomentSums:
        """Sums with those of further shares; the former are not changed."""
        total = self._nothing(workload) if total is None else deepcopy(total)
        for block in chain.from_iterable(sums):
            total.add(block)
        return total

    def codes(
        self,
        workload: Workload,
        request: LayerRequest,
        total: MomentSums | None,
        sums: Sequence[list[list[BlockSums]]],
        rows: Sequence[Float32Array] = (),
    ) -> LayerCodes:
        """Round the layer by the sums of all blocks.

        Args:
            workload: The model.
            request: How.
            total: Sums that are added; None for none yet.
            sums: Those of further shares.
            rows: The products, if others have summed them.
        """
        target_output, whole = self._target(workload)[0], self._whole(workload, total, sums, rows)
        with workload.running() as runner:
            return LayerCodes.of(rounded_layer(target_output, request, whole, runner.pool))

    def aimed(
        self,
        workload: Workload,
        request: LayerRequest,
        total: MomentSums | None,
        sums: Sequence[list[list[BlockSums]]],
        rows: Sequence[Float32Array] = (),
    ) -> AimedLayer:
        """The same as far as its rows are to be rounded by several."""
        target_output, whole = self._target(workload)[0], self._whole(workload, total, sums, rows)
        with workload.running() as runner:
            return AimedLayer.of(target_output, request, whole, runner.pool).alone()

    def _whole(
        self,
        workload: Workload,
        total: MomentSums | None,
        sums: Sequence[list[list[BlockSums]]],
        rows: Sequence[Float32Array],
    ) -> MomentSums:
        whole = self.total(workload, total, sums)
        return whole.with_products(np.concatenate(rows, axis=1)) if len(rows) else whole

    def joined(
        self, workload: Workload, request: LayerRequest, aimed: AimedLayer, codes: list[Any]
    ) -> LayerCodes:
        """The codes of the rows of all, as those of the layer."""
        target_output, _ = self._target(workload)
        return LayerCodes.of(aimed.rounded(target_output, request, np.concatenate(codes)))

    def _target(self, workload: Workload) -> tuple[TargetOutput, Segment]:
        way = find_way(workload.classifier, workload.image)
        return way[self.step].target_outputs[self.place]

    def _nothing(self, workload: Workload) -> MomentSums:
        """Nothing summed yet."""
        target_output, _ = self._target(workload)
        patches, site = target_output.layer.patches[0], target_output.layer.site
        nothing = MomentSums(patches.groups, patches.size, site.layer.channels)
        return nothing.without_products() if self.parts > 1 else nothing


def known_of(part: Segment, codes: Mapping[str, Any]) -> dict[str, Any]:
    """Codes of the layers of a part that are rounded so far."""
    return {name: codes[name] for name in sorted(part.layers) if name in codes}


def float_outputs(workload: Workload, share: Mapping[int, Batch], seed: int) -> Tensors:
    """Layer -> the float model's target output at the drawn positions, block by block."""
    every = find_target_outputs(workload.classifier, workload.image)
    found: dict[str, list[Float32Array]] = {one.layer.name: [] for one in every}
    with workload.running() as runner:
        for group in in_groups(every, lambda one: one.held):
            names = list(dict.fromkeys(one.tensor for one in group))
            model = with_outputs(workload.classifier.proto, names)
            session = workload.open(model.SerializeToString())
            for number, block in share.items():
                pixels, where = images_of(workload, block), (seed, number)
                drawn = drawn_outputs(group, pixels, session, runner, where)
                for one, values in zip(group, drawn, strict=True):
                    found[one.layer.name].append(values)
    return found


def go_on(
    workload: Workload, there: Tensors, share: Mapping[int, Batch], number: int, codes: Codes
) -> Tensors:
    """What the next step takes.

    Args:
        workload: The images.
        there: What this one takes, but for the image.
        share: Blocks of the images.
        number: Of this step.
        codes: Of its layers.
    """
    step = find_way(workload.classifier, workload.image)[number]
    gone = _given(workload, step.onward, there, share, codes)
    return {name: gone[name] if name in gone else there[name] for name in step.keeps}


def _given(
    workload: Workload, part: Segment, there: Tensors, share: Mapping[int, Batch], codes: Codes
) -> Tensors:
    """What a part of the model gives."""
    if not part.gives:
        return {}
    found: dict[str, list[Float32Array]] = {name: [] for name in part.gives}
    session = _session(workload, part, codes)
    with workload.running() as runner:
        for place, block in enumerate(share.values()):
            values = runner.run_rows(session, _taken(workload, part.takes, there, place, block))
            for name, own in found.items():
                own.append(values[name])
    return found


def _session(workload: Workload, part: Segment, codes: Codes) -> Session:
    """A part of the model as far as it is quantized."""
    rounded = {n: own.rounded(workload.classifier.site(n).layer) for n, own in codes.items()}
    weights = {name: own.weight for name, own in rounded.items()}
    biases = {name: own.bias for name, own in rounded.items() if own.bias is not None}
    return workload.open(segment_model(workload.classifier, part, weights, biases))


def _taken(
    workload: Workload, names: Iterable[str], there: Tensors, place: int, block: Batch
) -> dict[str, Float32Array]:
    """Tensors that are there, for a block of images."""
    return {
        name: there[name][place] if name in there else images_of(workload, block)[name]
        for name in names
    }


def added_rows(total: Float32Array | None, sums: Sequence[Sequence[Float32Array]]) -> Float32Array:
    """A task: some rows of the products of all blocks, with those of further shares."""
    total = np.zeros_like(sums[0][0]) if total is None else total.copy()
    for rows in chain.from_iterable(sums):
        total += rows
    return total


def row_codes(aimed: AimedLayer, request: LayerRequest, rows: slice) -> Float32Array:
    """A task: codes of some rows of a layer."""
    return aimed.codes(request, rows)
