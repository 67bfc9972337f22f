"""Relative error of the output of every channel: what can be told without a backward pass.

    error[c, b] = mean (delta[n, c, b, p])^2 / sum_o variance of y[n, o, p]

over images n and positions p, with delta the change of the layer's output y. Summed over the
channels of a layer it is noise against signal; times some factor it stands for the KL.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.targets import Site
from onnxsemi._progress import Progress
from onnxsemi._run.journal import Journal, Question
from onnxsemi._runtime.batch_sizes import ERROR_IMAGES
from onnxsemi._runtime.engine import parts_for
from onnxsemi._runtime.runner import Batch, Runner
from onnxsemi._sensitivity.output_changes import Changes

_TASK_IMAGES = 8  # of a task at least, which opens a session for them


class OutputErrors(Question, frozen=True):
    """Each channel of a layer, at each bitwidth."""

    layer: str
    bits: tuple[int, ...]


def output_errors(
    workload: Workload,
    layers: Sequence[str],
    bits: tuple[int, ...],
    progress: Progress,
    journal: Journal,
) -> Mapping[str, Float64Array]:
    """Relative error of the output of every channel at every bitwidth, a layer at a time.

    Args:
        workload: Model and images, of which the first are used.
        layers: Names of the target layers to measure.
        bits: Bitwidths, B of them.
        progress: Told of every layer.
        journal: Recalls what was measured, a layer at a time.

    Returns:
        Layer -> float64[O, B], >= 0.
    """
    few = workload.first(ERROR_IMAGES)
    sites = [site for site in workload.classifier.sites if site.layer.name in layers]
    progress.start("errors of the layers' outputs", len(sites))
    found = {}
    for site in sites:
        name = site.layer.name
        measure = partial(_measure, few, site, bits, progress)
        found[name] = journal.ask(OutputErrors(name, bits), Float64Array, measure)
        progress.step(name)
    return found


_Sums = tuple[Float64Array, Float64Array, Float64Array, int]


def _measure(
    workload: Workload, site: Site, bits: tuple[int, ...], progress: Progress
) -> Float64Array:
    """float64[O, B], from the sums over each image in their order."""
    engine, name = workload.engine, site.layer.name
    parts = parts_for(engine, len(workload.images), _TASK_IMAGES, ERROR_IMAGES)
    tasks = (workload.part(part).begin(_image_sums, name, bits) for part in parts)
    sums = [image for found in workload.taken(tasks, progress) for image in found]
    squares, first, second, count = (sum(parts[1:], parts[0]) for parts in zip(*sums, strict=True))
    variance = float((second / count - (first / count) ** 2).sum())
    if not variance > 0:  # a layer that gives the same for all: what changes is noise alone
        return np.zeros_like(squares)
    error: Float64Array = squares / count / variance
    return error


def _image_sums(workload: Workload, layer: str, bits: tuple[int, ...]) -> list[_Sums]:
    """Sums over each image."""
    return _Probed(workload, workload.classifier.site(layer), bits).sums()


class _Probed:
    """Runs the model up to one layer, image by image: no sum depends on how many run at once."""

    def __init__(self, workload: Workload, site: Site, bits: tuple[int, ...]) -> None:
        self._workload, self._site, self._bits = workload, site, bits
        model = onnx.ModelProto()
        model.CopyFrom(workload.classifier.proto)
        changes = Changes(model.graph, bits, workload.rounding)
        self._pairs = [
            (str(node.output[0]), changes.output(site, node))
            for node in workload.classifier.users(site)
        ]
        names = list(dict.fromkeys(name for pair in self._pairs for name in pair))
        self._session = workload.open(with_outputs(model, names).SerializeToString())

    def sums(self) -> list[_Sums]:
        """Of each image."""
        with self._workload.running() as runner:
            images = Batch(0, len(self._workload.images)).cut(1)
            return list(runner.map(partial(self._sums, runner), images))

    def _sums(self, runner: Runner, image: Batch) -> _Sums:
        """Sums over an image: of delta^2, float64[O, B]; of y and y^2, float64[O]; their number."""
        rows = self._workload.images.batch(image.start, image.stop)
        found = runner.run(self._session, {self._workload.classifier.ends.image.name: rows})
        channels = self._site.layer.channels
        squares = np.zeros(channels * len(self._bits))
        first, second, count = np.zeros(channels), np.zeros(channels), 0
        for output, change in self._pairs:
            y, delta = (self._values(found[name]) for name in (output, change))
            squares += np.square(delta).sum(axis=0)
            first, second = first + y.sum(axis=0), second + np.square(y).sum(axis=0)
            count += len(y)
        return squares.reshape(channels, -1), first, second, count

    def _values(self, tensor: Float32Array) -> Float64Array:
        """Values of each channel of the image, one below the other: float64[P, C]."""
        last = np.moveaxis(tensor, self._site.layout.output_axis, -1)
        return last.reshape(-1, last.shape[-1]).astype(np.float64)
