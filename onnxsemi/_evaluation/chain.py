"""A model as a chain of segments: a changed layer costs its own segment and those behind it.

The sessions of all segments are kept, with the weights of one plan, the *current* one. What the
segments before a change give is kept too, as far as the memory allows, and given again.
"""

from collections.abc import Sequence

import numpy as np

from onnxsemi._arrays import BoolArray, Float32Array, Int64Array
from onnxsemi._evaluation.forward import finite_logits, logit_rows
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.segments import Segment, find_chain, segment_model
from onnxsemi._model.shapes import image_shapes
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.rounded_plan import mixed_weight
from onnxsemi._runtime.batch_sizes import CHAIN_IMAGES
from onnxsemi._runtime.memory import give_back
from onnxsemi._runtime.runner import Batch, Runner
from onnxsemi._runtime.sessions import Session


class Chain:
    """Logits of plans on some images, through segments that are loaded once."""

    def __init__(self, workload: Workload) -> None:
        """Cut the model."""
        self._workload = workload
        shapes = image_shapes(workload.classifier, workload.image)
        self._segments = find_chain(workload.classifier, workload.image)
        self._wanted: BitPlan | None = None
        self._plan: BitPlan | None = None
        self._sessions: list[Session] = []
        self._tried: tuple[BitPlan, dict[int, Session]] | None = None
        rows = [shapes[segment.takes[0]] for segment in self._segments[1:]]
        # once and for all: the sessions do not give back what their runs have taken
        weights = sum(site.layer.weight.nbytes for site in workload.classifier.sites)
        # of the current plan, the one tried and the best one, which is written and verified: as
        # they are, and as the kernels pack them
        free = max(0, workload.free - 6 * weights)
        self._size = workload.classifier.ends.image.batch or workload.rows(CHAIN_IMAGES, free)
        self._kept = _Activations(rows, len(workload.images), free // 2)

    def keep(self, plan: BitPlan) -> None:
        """Make a plan the current one; its sessions are loaded when they are needed."""
        self._wanted = plan

    def _adopt(self, plan: BitPlan) -> None:
        changed = self._changed(plan)
        for place, session in changed.items():
            if self._plan is None:
                self._sessions.append(session)
            else:
                self._sessions[place] = session
        self._wanted, self._plan, self._tried = plan, plan, None
        if changed:
            self._kept.forget_from(min(changed))

    def logits(self, plan: BitPlan, images: Int64Array) -> Float32Array:
        """Logits of a plan, near the current one: float32[len(images), K].

        Args:
            plan: Any plan; what it shares with the current one is not computed again.
            images: int64[M], indices of the images.
        """
        wanted = self._wanted or plan
        if self._plan is not wanted:
            self._adopt(wanted)
        changed = self._changed(plan)
        first = min(changed, default=len(self._segments) - 1)
        sessions = [changed.get(i, session) for i, session in enumerate(self._sessions)]
        with self._workload.running() as runner:

            def run(batch: Batch) -> Float32Array:
                chosen = images[batch.start : batch.stop]
                tensor = self._entering(runner, first, chosen)
                for session in sessions[first:]:
                    tensor = _through(runner, session, tensor)
                return logit_rows(tensor, len(chosen), self._workload.head)

            found, progress = [], self._workload.progress
            progress.start("forward pass", len(images))
            for part in runner.map(run, Batch(0, len(images)).cut(self._size)):
                found.append(part)
                progress.step("", len(part))
        return finite_logits(np.concatenate(found), self._workload.images.name, images)

    def _entering(self, runner: Runner, place: int, images: Int64Array) -> Float32Array:
        """What the current plan brings to a segment: float32[len(images), ...]."""
        if place == 0:
            return self._workload.images.rows(images)
        missing = images[~self._kept.has(place - 1, images)]
        if not len(missing):
            return self._kept.get(place - 1, images)
        before = self._entering(runner, place - 1, missing)
        found = _through(runner, self._sessions[place - 1], before)
        self._kept.put(place - 1, missing, found)
        if len(missing) == len(images):
            return found
        result = np.empty((len(images), *found.shape[1:]), np.float32)
        computed = np.isin(images, missing)
        result[computed] = found
        result[~computed] = self._kept.get(place - 1, images[~computed])
        return result

    def _changed(self, plan: BitPlan) -> dict[int, Session]:
        """Sessions of the segments in which a plan differs from the current one."""
        if self._tried is None or self._tried[0] is not plan:
            places = [i for i, segment in enumerate(self._segments) if self._differs(segment, plan)]
            self._tried = None
            give_back()
            self._tried = (plan, {i: self._session(self._segments[i], plan) for i in places})
        return self._tried[1]

    def _differs(self, segment: Segment, plan: BitPlan) -> bool:
        current = self._plan
        return current is None or any(
            (plan.bits[layer] != current.bits[layer]).any() for layer in segment.layers
        )

    def _session(self, segment: Segment, plan: BitPlan) -> Session:
        classifier, rounding = self._workload.classifier, self._workload.rounding
        weights = {
            layer: mixed_weight(classifier.site(layer).layer, plan.bits[layer], rounding)
            for layer in segment.layers
        }
        session = self._workload.open(segment_model(classifier, segment, weights), shared=True)
        self._workload.progress.step("", 0)  # large ones take long to open
        return session


def _through(runner: Runner, session: Session, tensor: Float32Array) -> Float32Array:
    """What a segment makes of the one tensor that it takes."""
    found = runner.run(session, {session.inputs[0]: tensor})[session.outputs[0]]
    return np.asarray(found, np.float32)


class _Activations:
    """What enters each segment but the first, for as many images as the memory holds."""

    def __init__(self, rows: Sequence[tuple[int, ...]], images: int, memory: int) -> None:
        each = sum(4 * int(np.prod(row)) for row in rows)
        self._count = min(images, memory // each) if each else 0
        # reserved, not yet taken: a page is taken when it is first written
        self._values = [np.empty((self._count, *row), np.float32) for row in rows]
        self._known = np.zeros((len(rows), images), np.bool_)

    def has(self, place: int, images: Int64Array) -> BoolArray:
        """Which images are kept: bool[len(images)]."""
        known: BoolArray = self._known[place, images]
        return known

    def get(self, place: int, images: Int64Array) -> Float32Array:
        """Kept values: float32[len(images), ...]."""
        return self._values[place][images]

    def put(self, place: int, images: Int64Array, values: Float32Array) -> None:
        """Keep values of the images that there is room for."""
        fits = images < self._count
        self._values[place][images[fits]] = values[fits]
        self._known[place, images[fits]] = True

    def forget_from(self, segment: int) -> None:
        """Drop what the segment and those behind it gave."""
        self._known[segment:] = False
