"""Rounding a plan layer after layer on many machines.

Each has some blocks of images, of which it keeps what goes on between the layers. A layer is looked
at by all; the sums of their blocks are added in the order of the blocks, those of several machines
by one task, and the last of these tasks rounds. So the sums have the bits that they have on one
machine. The rows of a wide layer are rounded by several.

Where workers are many, plans that are likely to come are begun beside the one that is asked for.

All of it are tasks that follow from others: what goes on, sums, codes. What is lost with a machine
is computed again from the images on, by another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import getitem
from typing import Any

from onnxsemi._evaluation.workload import Workload, begin_all
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import Progress
from onnxsemi._quantizer.plan_codes import LayerCodes, PlanCodes
from onnxsemi._quantizer.rounded_plan import RoundedLayer, RoundedPlan
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding import shares
from onnxsemi._rounding.aimed_layer import LayerRequest, row_parts
from onnxsemi._rounding.sent_rounder import SentRounder, rounded_whole
from onnxsemi._rounding.shares import Share
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import (
    find_way,
    same_bits,
)
from onnxsemi._rounding.walk import layer_from_table
from onnxsemi._rounding.walk_tasks import (
    Look,
    added_rows,
    float_outputs,
    go_on,
    known_of,
    row_codes,
)

ROOM = 2
"""Workers for each share of a plan from which on others are begun beside it."""


@dataclass(frozen=True, eq=False)
class _Begun:
    """A plan under way.

    Attributes:
        found: Layers that need no look.
        tasks: Codes of the others, in the order of the way.
    """

    found: dict[str, RoundedLayer]
    tasks: list[Any]


class SpreadRounder:
    """Rounds plans as :class:`~onnxsemi._rounding.sequential.SequentialRounder` does."""

    def __init__(
        self, workload: Workload, table: RoundingTable, settings: RoundingSettings, seed: int
    ) -> None:
        """Begin with nothing; see :class:`~onnxsemi._rounding.sequential.SequentialRounder`."""
        self._workload, self._table, self._settings, self._seed = workload, table, settings, seed
        self._steps = find_way(workload.classifier, workload.image)
        self._order = [one.layer.name for step in self._steps for one, _ in step.target_outputs]
        self._sent = SentRounder(table, settings, seed)
        self._shares: list[tuple[Share, Any]] = []  # with the float model's target outputs: tasks
        self._likely: Sequence[BitPlan] = ()
        self._ahead: dict[BitPlan, _Begun] = {}

    def foresee(self, plans: Sequence[BitPlan]) -> None:
        """Begin with these beside the next plan: while that is rounded, most workers wait."""
        self._likely = plans

    def __call__(
        self, plan: BitPlan, progress: Progress, known: RoundedPlan | None = None
    ) -> RoundedPlan:
        """Round a plan.

        Args:
            plan: Bits of every target channel.
            progress: Told of every layer.
            known: See :class:`~onnxsemi._rounding.sequential.SequentialRounder`.
        """
        workload = self._workload
        if not self._shares:
            count = shares.share_count(workload)
            if count == 1:
                return self._whole(plan, progress, known)
            every = shares.dealt(workload, count)
            given = [(own.workload, (own.blocks, self._seed)) for own in every]
            self._shares = list(zip(every, begin_all(float_outputs, given), strict=True))
        begun = self._ahead.get(plan) or self._begun(plan, known)
        likely = self._likely if workload.engine.workers >= ROOM * len(self._shares) else ()
        self._likely = ()
        self._ahead = {one: self._ahead.get(one) or self._begun(one, known) for one in likely}
        found = begun.found
        progress.start("rounding", len(plan.bits))
        progress.step(workload.where, len(found))
        rest = [name for name in self._order if name not in found]
        for name, codes in zip(rest, workload.taken(begun.tasks, progress), strict=True):
            found[name] = codes.rounded(workload.classifier.site(name).layer)
            progress.step(workload.where)
        return RoundedPlan(plan, self._table.scheme, {name: found[name] for name in plan.bits})

    def _begun(self, plan: BitPlan, known: RoundedPlan | None) -> "_Begun":
        """A plan of which every task is begun."""
        found = dict(self._given(plan, known))
        tasks = self._tasks(plan, {name: LayerCodes.of(one) for name, one in found.items()})
        return _Begun(found, list(tasks))

    def _whole(self, plan: BitPlan, progress: Progress, known: RoundedPlan | None) -> RoundedPlan:
        """A plan that one worker rounds."""
        workload, before = self._workload, None if known is None else PlanCodes.of(known)
        progress.start("rounding", len(plan.bits))
        sent = workload.engine.place(self._sent, lambda: self._sent)  # where it has seen images
        tasks = [workload.begin(rounded_whole, sent, plan, before)]
        (codes,) = workload.taken(tasks, progress)
        progress.step(workload.where, len(plan.bits))
        rounded: RoundedPlan = codes.rounded(workload.classifier.layers)
        return rounded

    def _given(
        self, plan: BitPlan, known: RoundedPlan | None
    ) -> Iterator[tuple[str, RoundedLayer]]:
        """Layers that need no look: of the table, of float32, or those of a known plan."""
        sites = {site.layer.name: site for site in self._workload.classifier.sites}
        unseen = plan.bits.keys() - set(self._order)
        for name in unseen:
            yield name, layer_from_table(self._table, name, plan, sites[name])
        for name in self._order:
            if (plan.bits[name] == FLOAT_BITS).all():
                yield name, RoundedLayer.of(sites[name].layer.weight, plan.bits[name], {})
        if known is not None and same_bits(known.plan, plan, unseen):
            for name in self._order:
                if not same_bits(known.plan, plan, [name]):
                    break
                yield name, known.layers[name]

    def _tasks(self, plan: BitPlan, codes: dict[str, Any]) -> Iterator[Any]:
        """A task for each layer that is not given, in the order of the way.

        Args:
            plan: Bits of every target channel.
            codes: Of the layers that are given; tasks of the others are added.
        """
        there: list[Any] = [{} for _ in self._shares]
        for number, step in enumerate(self._steps):
            for place, (target_output, part) in enumerate(step.target_outputs):
                name = target_output.layer.name
                if name not in codes:
                    request = LayerRequest.of(target_output, plan, self._table, self._settings)
                    parts = shares.sum_parts(target_output.layer)
                    look, known = Look(number, place, self._seed, parts), known_of(part, codes)
                    codes[name] = self._rounded(look, request, there, known)
                    yield codes[name]
            if step.keeps:
                own = known_of(step.onward, codes)
                given = [
                    (share.workload, (tensors, share.blocks, number, own))
                    for (share, _), tensors in zip(self._shares, there, strict=True)
                ]
                there = begin_all(go_on, given)

    def _rounded(
        self, look: Look, request: LayerRequest, there: list[Any], codes: Mapping[str, Any]
    ) -> Any:
        """A task: the codes of a layer."""
        given = [
            (share.workload, (share.blocks, tensors, wanted, codes))
            for (share, wanted), tensors in zip(self._shares, there, strict=True)
        ]
        if look.parts == 1:
            return self._by_rows(look, request, begin_all(look.sums, given), [])
        every, engine = begin_all(look.parted, given), self._workload.engine
        sums, *rows = (
            engine.begin_all(getitem, [(one, part) for one in every])
            for part in range(1 + look.parts)
        )
        added = [self._added(partial(engine.begin, added_rows), None, own) for own in rows]
        return self._by_rows(look, request, sums, added)

    def _added(self, add: Callable[..., Any], total: Any, sums: Sequence[Any]) -> Any:
        """A task: sums of all shares; those of several are added by one task."""
        for turn in shares.in_turns(sums):
            total = add(total, turn)
        return total

    def _by_rows(
        self, look: Look, request: LayerRequest, sums: list[Any], products: list[Any]
    ) -> Any:
        """A task: the same of the sums of all blocks; of a wide layer its rows are dealt."""
        engine, last = self._workload.engine, self._shares[-1][0].workload
        target_output, _ = self._steps[look.step].target_outputs[look.place]
        parts = row_parts(target_output, engine.workers)
        *before, rest = shares.in_turns(sums)
        first = sums[: len(sums) - len(rest)]
        total = self._added(partial(last.begin, look.total), None, first) if before else None
        if len(parts) == 1:
            return last.begin(look.codes, request, total, rest, products)
        aimed = last.begin(look.aimed, request, total, rest, products)
        codes = [engine.begin(row_codes, aimed, request, part) for part in parts]
        return last.begin(look.joined, request, aimed, codes)
