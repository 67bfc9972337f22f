"""Δloss and KL of all channels from a few backward passes (paper, equation 2).

    Δloss(c, b) ~ mean_n g[n] . delta[n, c, b]  +  1/2 mean_n sum_s (f_s[n] . delta[n, c, b])^2
    KL(C, b)    ~ 1/2 mean_n sum_s (sum_{c in C} f_s[n] . delta[n, c, b])^2

g is the gradient of the loss with the true label at the layer's output, f_s the gradients that give
the Fisher matrix (:mod:`onnxsemi._stats.cotangents`), delta the change of the output. Kept are the
first term and the squares of each channel, by folds of images: what one part of the images says can
be checked on another. Where they are asked for, the products between the channels of a layer are
kept too: with them the KL of a semilayer has its cross terms, without them its channels count as
independent. The memory does not grow with the number of images.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.forward import score_gradients
from onnxsemi._evaluation.workload import Workload
from onnxsemi._plan.layers import Semilayer
from onnxsemi._progress import Progress
from onnxsemi._run.store import Array, read_arrays, write_arrays
from onnxsemi._runtime.batch_sizes import BACKWARD_IMAGES, BLOCK_IMAGES
from onnxsemi._runtime.engine import TASK_SECONDS
from onnxsemi._runtime.runner import Batch, Runner
from onnxsemi._runtime.sessions import Session
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._sensitivity.backward import BackwardGraph, ImageTerms, SentPart, block_terms
from onnxsemi._sensitivity.parts import Part, parts_of
from onnxsemi._sensitivity.probe import ForwardGraph

_PASSES = 10  # forward passes that effects of an image take in a part, at least
FOLDS = 8
"""Parts of the images, image n in part n % FOLDS: enough for a standard error of a mean over them,
few enough for each to hold some images of the smallest samples."""


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """Sums over images of one layer's effects.

    Attributes:
        first: float64[O, B], sum of the label's gradient times the change, nats.
        squares: float64[F, O, B], sum of each channel's squared Fisher effects over the images of
            a fold, nats.
        products: float32[B, O, O], sum of the products of two channels' Fisher effects, nats; None
            if they were not asked for.
    """

    first: Float64Array
    squares: Float64Array
    products: Float32Array | None = None

    @classmethod
    def zeros(cls, channels: int, bits: int, *, products: bool) -> "LayerMoments":
        """Nothing summed yet."""
        return cls(
            np.zeros((channels, bits)),
            np.zeros((FOLDS, channels, bits)),
            np.zeros((bits, channels, channels), np.float32) if products else None,
        )

    @property
    def arrays(self) -> dict[str, Array]:
        """All sums by name."""
        named = {"first": self.first, "squares": self.squares, "products": self.products}
        return {name: array for name, array in named.items() if array is not None}


@dataclass(frozen=True, eq=False)
class FastTables:
    """Moments of every layer that has a gradient.

    Attributes:
        bits: The bitwidths, widest first.
        moments: Layer -> its sums.
        samples: Images summed over.
        missing: Layer -> why it has no gradient.
    """

    bits: tuple[int, ...]
    moments: Mapping[str, LayerMoments]
    samples: int
    missing: Mapping[str, str] = field(default_factory=dict)

    def delta_loss(self) -> DeltaLossTable:
        """Δloss of every channel of the layers that have a gradient."""
        nats = {
            layer: (moments.first + moments.squares.sum(axis=0) / 2) / self.samples
            for layer, moments in self.moments.items()
        }
        return DeltaLossTable(self.bits, nats, self.samples)

    def kl_increase(self) -> DeltaLossTable:
        """KL of every channel quantized alone, of the layers that have a gradient."""
        nats = {
            layer: moments.squares.sum(axis=0) / 2 / self.samples
            for layer, moments in self.moments.items()
        }
        return DeltaLossTable(self.bits, nats, self.samples)

    def kl_increase_folds(self) -> Mapping[str, Float64Array]:
        """The same on each fold of the images alone: layer -> float64[F, O, B], nats per sample.

        With fewer images than folds, F is the number of images.
        """
        counts = np.bincount(np.arange(self.samples) % FOLDS)  # images of each fold
        return {
            layer: moments.squares[: len(counts)] / 2 / counts[:, None, None]
            for layer, moments in self.moments.items()
        }

    def kl(self, semilayer: Semilayer) -> float:
        """KL of a semilayer quantized alone, nats per sample.

        With the cross terms of its channels if the products between channels were summed; else the
        sum of the channels' own, as if their effects were independent.
        """
        moments = self.moments[semilayer.layer]
        channels, place = np.array(semilayer.channels), self.bits.index(semilayer.bits)
        if moments.products is None:
            total = moments.squares[:, channels, place].sum()
        else:
            products = moments.products[place][np.ix_(channels, channels)]
            total = products.sum(dtype=np.float64)
        return float(total) / 2 / self.samples


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A part that is worked on.

    Attributes:
        graph: Measures it.
        columns: Where the part's bitwidths stand on the ladder.
        images: Images in one run.
    """

    graph: BackwardGraph
    columns: slice
    images: int


class FastMeasurement:
    """Sums the moments part by part and block by block.

    What is summed so far can be stored and taken up again.
    """

    def __init__(
        self,
        workload: Workload,
        layers: Sequence[str],
        bits: tuple[int, ...],
        seed: int,
        *,
        products: bool = False,
    ) -> None:
        """Cut the work into parts.

        Args:
            workload: Model and images.
            layers: Names of the target layers to measure.
            bits: The ladder, widest first.
            seed: Seed of the drawn labels.
            products: Whether to sum the products between channels. They are O / F times as large as
                all the rest, and only the KL of semilayers with cross terms needs them.
        """
        self._workload, self._seed, self._bits = workload, seed, bits
        self._products = Session(_products_model()) if products else None
        self._logits = workload.float_logits()
        self._layers = [layer for layer in workload.classifier.layers if layer.name in layers]
        self._parts = parts_of(self._layers, bits)
        self.moments: dict[str, LayerMoments] = {}
        self._missing: dict[str, str] = {}
        self.done = 0

    @property
    def finished(self) -> bool:
        """Whether everything is summed."""
        return self.done == self._runs

    @property
    def _runs(self) -> int:
        """Images of all parts."""
        return len(self._workload.images) * len(self._parts)

    def measure(self, progress: Progress, after_block: Callable[[], None]) -> FastTables:
        """Sum what is not summed yet.

        Args:
            progress: Told of every image of every part.
            after_block: Called when a block is summed.
        """
        count = len(self._workload.images)
        progress.start("Δloss and KL, backward passes", self._runs)
        progress.step("", self.done)
        with self._workload.running() as runner:
            one = self._measure_part
            if self._workload.engine.workers:
                one = partial(self._spread_part, progress)
            for number in range(self.done // count, len(self._parts)):
                for images in one(runner, number):
                    progress.step(self._workload.where, images)
                    after_block()
        return FastTables(self._bits, self.moments, count, self._missing)

    def _measure_part(self, runner: Runner, number: int) -> Iterator[int]:
        """Sum what is not summed yet of a part; gives the images of each block when it is.

        The graph goes with this call: the next part's is built when this one is dropped.
        """
        part, count = self._load(self._parts[number]), len(self._workload.images)
        blocks = Batch(self.done - number * count, count).cut(BLOCK_IMAGES)
        # runs of the next block are under way while this one is summed
        runs = runner.map(
            partial(self._run, runner, part), self._given(part, blocks), 2 * runner.threads
        )
        for block in blocks:
            self._sum(runner, part, block, [next(runs) for _ in block.cut(part.images)])
            self.done += len(block)
            yield len(block)

    def _spread_part(self, progress: Progress, runner: Runner, number: int) -> Iterator[int]:
        """The same on other machines: terms of images come back, and are summed here by blocks."""
        part, count = self._parts[number], len(self._workload.images)
        blocks = Batch(self.done - number * count, count).cut(BLOCK_IMAGES)
        cotangents, engine = self._cotangents(Batch(0, 1)).shape[1], self._workload.engine
        sent = SentPart(part, cotangents, products=self._products is not None)
        with engine.shared(sent) as shared:
            found_in_runs = self._workload.taken(self._block_tasks(shared, blocks), progress)
            for block in blocks:
                runs = [next(found_in_runs) for _ in block.cut(self._task_images)]
                self._missing.update(runs[0][0])
                found = {
                    layer: ImageTerms.joined([terms[layer] for _, terms in runs])
                    for layer in runs[0][1]
                }
                for layer in found:
                    self._begun(layer)
                add = partial(self._add_block, found, self._columns(part), block)
                list(runner.map(add, found))
                self.done += len(block)
                yield len(block)

    def save(self, path: Path, run: str) -> None:
        """Write what is summed so far into a run's folder; the file appears whole."""
        arrays: dict[str, Array] = {"done": np.array(self.done)}
        for place, layer in enumerate(self._layers):
            if layer.name in self.moments:
                found = self.moments[layer.name].arrays
                arrays |= {f"{name}_{place}": array for name, array in found.items()}
            elif layer.name in self._missing:
                arrays[f"missing_{place}"] = np.array(self._missing[layer.name])
        write_arrays(path, arrays, run)

    def restore(self, path: Path, run: str) -> None:
        """Go on from what :meth:`save` wrote.

        Raises:
            RunError: If the file is damaged, or of another run.
        """
        remedy = "delete it, and `resume` runs the backward passes again"
        arrays = read_arrays(path, run, remedy)
        for place, layer in enumerate(self._layers):
            if f"missing_{place}" in arrays:
                self._missing[layer.name] = str(arrays[f"missing_{place}"])
            elif f"first_{place}" in arrays:
                for name, array in self._begun(layer.name).arrays.items():
                    array[:] = arrays[f"{name}_{place}"]
        self.done = int(arrays["done"])

    def _begun(self, layer: str) -> LayerMoments:
        """The sums of a layer, nothing summed if it was not begun."""
        if layer not in self.moments:
            channels, bits = self._workload.classifier.site(layer).layer.channels, len(self._bits)
            products = self._products is not None
            self.moments[layer] = LayerMoments.zeros(channels, bits, products=products)
        return self.moments[layer]

    @cached_property
    def _forward(self) -> ForwardGraph:
        """Found once: raising a large model to another opset takes longer than a part's sums."""
        return ForwardGraph.of(self._workload.classifier, self._workload.image)

    def _load(self, part: Part) -> _Loaded:
        """Build a part's graph, and begin the sums of its layers."""
        cotangents = self._cotangents(Batch(0, 1)).shape[1]
        graph = BackwardGraph.of(self._workload, self._forward, part, cotangents)
        self._missing.update(graph.probe.missing)
        sums = [self._begun(layer) for layer in part.layers if layer in graph.probe.effects]
        sizes = [sum(array.nbytes for array in moments.arrays.values()) for moments in sums]
        return _Loaded(graph, self._columns(part), graph.images(self._workload, sizes))

    def _columns(self, part: Part) -> slice:
        """Where a part's bitwidths stand on the ladder."""
        start = self._bits.index(part.bits[0])
        return slice(start, start + len(part.bits))

    def _given(
        self, part: _Loaded, blocks: Iterable[Batch]
    ) -> Iterator[tuple[Batch, Float32Array]]:
        """Images of every run of some blocks, and their cotangents."""
        for block in blocks:
            cotangents = self._cotangents(block)
            for batch in block.cut(part.images):
                yield batch, cotangents[batch.start - block.start : batch.stop - block.start]

    def _sum(
        self,
        runner: Runner,
        part: _Loaded,
        block: Batch,
        found: Sequence[Mapping[str, Float32Array]],
    ) -> None:
        """Add a block of images, run by run, to the sums of a part's layers."""

        def add(layer: str) -> None:
            effects = np.concatenate([values[layer] for values in found])
            terms = ImageTerms.of(effects, products=self._products is not None)
            self._add(self.moments[layer], part.columns, terms, block.start)

        # without products there is so little to add that the runs behind it are not to wait
        each = map if self._products is None else runner.map
        list(each(add, part.graph.probe.effects))

    @cached_property
    def _task_images(self) -> int:
        """Images of a task: few, as there are few and many workers, but worth to hand over."""
        each = _PASSES * self._workload.image_seconds
        runs = TASK_SECONDS / (BACKWARD_IMAGES * each) if each else 1
        return min(BLOCK_IMAGES, BACKWARD_IMAGES * max(1, math.ceil(runs)))

    def _block_tasks(self, shared: Any, blocks: Iterable[Batch]) -> Iterator[Any]:
        """Tasks of a part, several for each block."""
        for block in blocks:
            cotangents = self._cotangents(block)
            for run in block.cut(self._task_images):
                own = cotangents[run.start - block.start : run.stop - block.start]
                images = self._workload.part(slice(run.start, run.stop))
                yield images.begin(block_terms, shared, own)

    def _add_block(
        self, found: Mapping[str, ImageTerms], columns: slice, block: Batch, layer: str
    ) -> None:
        self._add(self.moments[layer], columns, found[layer], block.start)

    def _cotangents(self, block: Batch) -> Float32Array:
        """What the backward passes of a block of images begin with: float32[N, S, *row]."""
        workload, own = self._workload, slice(block.start, block.stop)
        generator = np.random.default_rng([self._seed, block.start])
        cotangents = workload.likelihood.cotangents(
            self._logits[own], workload.labels[own], generator
        )
        return score_gradients(cotangents, workload.head)

    def _run(
        self, runner: Runner, part: _Loaded, given: tuple[Batch, Float32Array]
    ) -> dict[str, Float32Array]:
        """Effects of one run's images: layer -> float32[N, O, B, S]."""
        run, cotangents = given
        return part.graph.effects(runner, self._workload, run, cotangents)

    def _add(self, moments: LayerMoments, columns: slice, terms: ImageTerms, start: int) -> None:
        """Add the terms of images from ``start`` on to a layer's sums."""
        moments.first[:, columns] += terms.first.sum(axis=0, dtype=np.float64)
        for images in Batch(0, len(terms.squares)).cut(FOLDS):  # one of each fold
            folds = np.arange(start + images.start, start + images.stop) % FOLDS
            moments.squares[folds, :, columns] += terms.squares[images.start : images.stop]
        if moments.products is not None and self._products is not None:
            assert terms.factors is not None
            turned = np.ascontiguousarray(terms.factors.transpose(2, 0, 3, 1))  # [B, N, S - 1, O]
            rows = turned.reshape(len(turned), -1, terms.factors.shape[1])
            moments.products[columns] += self._products.run({"rows": rows})["products"]


def _products_model() -> bytes:
    """Products [B, O, O] = rows^T rows of rows [B, R, O], on one thread whatever the machine."""
    rows, products = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("rows", ["B", "R", "O"]), ("products", ["B", "O", "P"]))
    )
    nodes = [
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["turned", "rows"], ["products"]),
    ]
    graph = helper.make_graph(nodes, "products", [rows], [products])
    opset = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())
