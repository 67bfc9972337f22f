"""The graph of a part of the backward passes, and what it gives of a run's images.

The graph holds the part's changed weights at all bitwidths. It is built where it is run: on other
machines once for all blocks of images that one works on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._runtime.batch_sizes import BACKWARD_IMAGES, RUN_BYTES
from onnxsemi._runtime.memory import give_back
from onnxsemi._runtime.runner import Batch, Runner
from onnxsemi._runtime.sessions import Session
from onnxsemi._sensitivity.parts import Part
from onnxsemi._sensitivity.probe import COTANGENTS, ForwardGraph, Probe, ProbeRequest, build_probe

Effects = dict[str, Float32Array]
"""Layer -> float32[N, O, B, S]: what each cotangent says of each change."""


@dataclass(frozen=True, eq=False)
class ImageTerms:
    """What a layer's Δloss and KL are sums of.

    Attributes:
        first: float32[N, O, B], the label's gradient times the change, nats.
        squares: float64[N, O, B], sums of the squared Fisher effects, nats.
        factors: float32[N, O, B, S - 1], the Fisher effects; None where no products between
            channels are summed, as these are most of the bytes.
    """

    first: Float32Array
    squares: Float64Array
    factors: Float32Array | None

    @classmethod
    def of(cls, effects: Float32Array, *, products: bool) -> "ImageTerms":
        """Those of effects float32[N, O, B, S]."""
        factors = effects[..., 1:]
        squares = np.square(factors, dtype=np.float64).sum(axis=3)
        first = np.ascontiguousarray(effects[..., 0])
        return cls(first, squares, factors if products else None)

    @classmethod
    def joined(cls, parts: "Sequence[ImageTerms]") -> "ImageTerms":
        """Those of images that follow each other."""
        factors = [part.factors for part in parts if part.factors is not None]
        return cls(
            np.concatenate([part.first for part in parts]),
            np.concatenate([part.squares for part in parts]),
            np.concatenate(factors) if factors else None,
        )


@dataclass(frozen=True, eq=False)
class BackwardGraph:
    """A part with the graph that measures it.

    Attributes:
        probe: The graph, without its serialized model: that is as large as all weight changes.
        session: Runs it; None if no layer of the part has a gradient.
    """

    probe: Probe
    session: Session | None

    @classmethod
    def of(
        cls, workload: Workload, forward: ForwardGraph, part: Part, cotangents: int
    ) -> "BackwardGraph":
        """Build it.

        Args:
            workload: The model, and what rounds.
            forward: Its graph.
            part: Layers and bitwidths.
            cotangents: Of each image, S.
        """
        request = ProbeRequest(
            layers=part.layers, bits=part.bits, rounding=workload.rounding, cotangents=cotangents
        )
        give_back()  # what the part before held
        probe = build_probe(workload.classifier, forward, request)
        session = workload.open(probe.model) if probe.effects else None
        return cls(replace(probe, model=b""), session)

    def images(self, workload: Workload, sizes: Sequence[int] = ()) -> int:
        """Images in one run, as the memory allows. Changes no result.

        Args:
            workload: The model, its threads and its memory.
            sizes: Bytes of the sums of each layer, which are yet to be taken.
        """
        if workload.classifier.ends.image.batch:
            return workload.classifier.ends.image.batch
        free = workload.free - sum(sizes) - 2 * workload.threads * max(sizes, default=0)
        fitting = min(RUN_BYTES, free // (2 * workload.threads))
        return max(1, min(BACKWARD_IMAGES, fitting // self.probe.row_bytes))

    def effects(
        self, runner: Runner, workload: Workload, run: Batch, cotangents: Float32Array
    ) -> Effects:
        """Effects of one run's images.

        Args:
            runner: Runs the graph.
            workload: The images.
            run: Which of them.
            cotangents: float32[N, S, *row], what the backward passes begin with.
        """
        if self.session is None:
            return {}
        rows = workload.images.batch(run.start, run.stop)
        # [N, S, *row] -> [N * S, *row]
        flat = cotangents.reshape(-1, *self.probe.cotangent_row)
        feeds = {workload.classifier.ends.image.name: rows, COTANGENTS: flat}
        found = runner.run(self.session, feeds)
        return {layer: found[name] for layer, name in self.probe.effects.items()}


@dataclass(eq=False)
class SentPart:
    """A part as other machines are told of it: each builds the graph when it first runs it.

    Attributes:
        part: Layers and bitwidths.
        cotangents: Of each image, S.
        products: Whether products between channels are to be summed.
    """

    part: Part
    cotangents: int
    products: bool
    _lock: Any = field(default_factory=Lock, repr=False)
    _graph: BackwardGraph | None = None

    def graph(self, workload: Workload) -> BackwardGraph:
        """The graph, built once."""
        with self._lock:
            if self._graph is None:
                forward = ForwardGraph.of(workload.classifier, workload.image)
                self._graph = BackwardGraph.of(workload, forward, self.part, self.cotangents)
            return self._graph

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the graph."""
        return SentPart, (self.part, self.cotangents, self.products)


def block_terms(
    workload: Workload, sent: SentPart, cotangents: Float32Array
) -> tuple[dict[str, str], dict[str, ImageTerms]]:
    """Of all images: layers without a gradient, and the terms of the others.

    Args:
        workload: The images.
        sent: The part.
        cotangents: float32[N, S, *row].
    """
    graph, block = sent.graph(workload), Batch(0, len(workload.images))
    with workload.running() as runner:
        runs = [
            graph.effects(runner, workload, run, cotangents[run.start : run.stop])
            for run in block.cut(graph.images(workload))
        ]
    found = {
        layer: ImageTerms.joined(
            [ImageTerms.of(run[layer], products=sent.products) for run in runs]
        )
        for layer in graph.probe.effects
    }
    return dict(graph.probe.missing), found
