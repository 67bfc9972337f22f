"""Rounding a plan layer after layer, each for the inputs that the quantized layers before it give.

With x the inputs of a layer in the model as far as it is quantized, and d the distance of its
output from the float model's while its own weights are still float32, weights and bias first move
to where they make up for it, and are rounded from there:

    W + cov(d, x) (cov(x) + damping)^-1

The output of a layer that is only added to a shortcut is the sum: the layer then makes up for what
the shortcut has lost, too. (Measured by ``benchmarks/bias_correction.py``, CIFAR-10 ResNet-20,
ranges ``output``, all layers at 3 and 2 bits: KL 0.59 and 0.35 of that of rounding each layer for
the float model's inputs.) The idea of aiming at the float model's outputs is that of GPTAQ (Li et
al., ICML 2025).

The model is gone through once a plan, from layer to layer: what goes on between them is kept, and d
follows from x, which is at hand.
"""

from collections.abc import Sequence
from dataclasses import replace

from onnxsemi._arrays import Float32Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.segments import Segment
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Progress
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.observed_layers import blocks, images_of
from onnxsemi._rounding.spill import OF_USE, ArraySpill, SpilledArray
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import (
    TargetOutput,
    drawn_outputs,
    find_target_outputs,
    find_way,
    same_bits,
)
from onnxsemi._rounding.walk import Walk, layer_from_table
from onnxsemi._runtime.blas import one_thread
from onnxsemi._runtime.runner import Batch, Runner
from onnxsemi._runtime.sessions import Session


class SequentialRounder:
    """Rounds plans for the inputs of the model as far as it is quantized."""

    def __init__(
        self,
        workload: Workload,
        table: RoundingTable,
        settings: RoundingSettings,
        seed: int,
    ) -> None:
        """Cut the model into segments.

        Args:
            workload: The float model and calibration images.
            table: Grids of every channel; codes of layers that cannot be looked at.
            settings: How to round.
            seed: Of the positions that are drawn.
        """
        self._workload, self._table, self._settings, self._seed = workload, table, settings, seed
        self._target_outputs = find_target_outputs(workload.classifier, workload.image)
        self._steps = find_way(workload.classifier, workload.image)
        self._float: dict[str, list[SpilledArray]] = {}
        self._sessions: dict[Segment, Session] = {}

    def __call__(
        self, plan: BitPlan, progress: Progress, known: RoundedPlan | None = None
    ) -> RoundedPlan:
        """Round a plan.

        Args:
            plan: Bits of every target channel.
            progress: Told of every layer, and of every block of images, which is no step.
            known: Another plan that was rounded: the layers before the first that differs are the
                same. It counts only if the layers that cannot be looked at are: they may lie
                anywhere.
        """
        workload = self._workload
        with one_thread(), workload.running() as runner:
            if not self._float:
                self._float = self._float_values(runner, progress)
            progress.start("rounding", len(plan.bits))
            within = replace(workload, progress=progress)
            walk = Walk(within, self._table, self._settings, self._seed, runner, self._sessions)
            seen = {target_output.layer.name for target_output in self._target_outputs}
            walk.add_from_table(plan, seen)
            rest = plan.bits.keys() - seen
            if known is not None and not same_bits(known.plan, plan, rest):
                known = None
            for step in self._steps:
                for target_output, part in step.target_outputs:
                    name = target_output.layer.name
                    if known is not None and same_bits(known.plan, plan, [name]):
                        walk.found[name] = known.layers[name]
                    else:
                        known = None
                        walk.pass_layer(target_output, part, plan, self._float[name])
                    progress.step(name)
                walk.go_on(step)
        layers = {name: walk.found[name] for name in plan.bits}
        return RoundedPlan(plan, self._table.scheme, layers)

    def _float_values(self, runner: Runner, progress: Progress) -> dict[str, list[SpilledArray]]:
        """Layer -> the float model's target output at the drawn positions, block by block."""
        workload, spill = self._workload, ArraySpill(self._workload.room(OF_USE))
        found: dict[str, list[SpilledArray]] = {
            target_output.layer.name: [] for target_output in self._target_outputs
        }
        parts = blocks(workload)
        groups = in_groups(self._target_outputs, lambda target_output: target_output.held)
        progress.start("outputs of the float model", len(groups) * len(workload.images))
        for group in groups:
            names = list(dict.fromkeys(target_output.tensor for target_output in group))
            session = workload.open(
                with_outputs(workload.classifier.proto, names).SerializeToString()
            )

            def look(
                item: tuple[int, Batch],
                some: Sequence[TargetOutput] = group,
                session: Session = session,
            ) -> list[Float32Array]:
                pixels, drawn = images_of(workload, item[1]), (self._seed, item[0])
                return drawn_outputs(some, pixels, session, runner, drawn)

            together = workload.together(sum(one.held for one in group))
            for part, drawn in zip(
                parts, runner.map(look, enumerate(parts), together), strict=True
            ):
                for target_output, values in zip(group, drawn, strict=True):
                    found[target_output.layer.name].append(spill.keep(values))
                progress.step("", len(part))
        return found


def from_table(classifier: Classifier, table: RoundingTable, plan: BitPlan) -> RoundedPlan:
    """Every layer of a plan as it stands in the table, with its biases."""
    layers = {
        site.layer.name: layer_from_table(
            table, site.layer.name, plan, site, correctable_bias(classifier, site)
        )
        for site in classifier.sites
    }
    return RoundedPlan(plan, table.scheme, {name: layers[name] for name in plan.bits})
