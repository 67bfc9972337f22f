"""A model as it is, run over images by an engine's workers."""

from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array
from onnxsemi._data.images import ImageSet
from onnxsemi._data.sent import SentImages
from onnxsemi._evaluation.forward import answers
from onnxsemi._model.head import Ends
from onnxsemi._model.outputs import with_outputs
from onnxsemi._progress import Progress, Silent
from onnxsemi._runtime.engine import MOST_TASK_IMAGES, Engine, parts_for
from onnxsemi._runtime.providers import CPU
from onnxsemi._runtime.runner import Runner
from onnxsemi._runtime.sessions import Session

_LEAST = 128  # images of a task


class SentModel:
    """A model that is opened once where it is run."""

    def __init__(self, model: onnx.ModelProto | bytes, ends: Ends, *, integers: bool) -> None:
        """Open nothing yet.

        Args:
            model: The graph, or it serialized with the logits as output.
            ends: Names of its image input and logits.
            integers: Whether to run quantized activations on integer kernels.
        """
        if not isinstance(model, bytes):
            model = with_outputs(model, [ends.logits]).SerializeToString()
        self._model, self.ends, self._integers = model, ends, integers
        self._lock = Lock()
        self._session: Session | None = None

    def session(self) -> Session:
        """The session, opened once."""
        with self._lock:
            if self._session is None:
                self._session = Session(self._model, CPU, integers=self._integers)
            return self._session

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the session."""
        return partial(SentModel, integers=self._integers), (self._model, self.ends)


def spread_forward(
    model: SentModel, images: ImageSet, engine: Engine, progress: Progress
) -> Float32Array:
    """Logits of a model over all images, in order: float32[N, K].

    Args:
        model: The model.
        images: Images laid out for it.
        engine: Has workers.
        progress: Told of every image.
    """
    found = []
    progress.start("forward pass", len(images))
    parts = parts_for(engine, len(images), _LEAST, MOST_TASK_IMAGES)
    with engine.shared(model) as shared:
        tasks = (engine.begin(_answers, shared, _placed(engine, images, part)) for part in parts)
        for logits in engine.results(tasks, lambda: progress.step(engine.where, 0)):
            found.append(logits)
            progress.step(engine.where, len(logits))
    return np.concatenate(found)


def _placed(engine: Engine, images: ImageSet, part: slice) -> Any:
    """Some of the images where tasks are to find them."""
    own = images.select(np.arange(len(images))[part])
    labels = None if own.labels is None else own.labels.tobytes()
    key = own.origin, own.places.tobytes(), labels
    return engine.place(key, partial(SentImages.of, own, by_files=engine.sees_files))


def _answers(model: SentModel, images: ImageSet) -> Float32Array:
    """Logits of some images, on one thread."""
    with Runner(model.ends.image.batch, 1) as runner:
        return answers(model.session(), model.ends, images, runner, Silent())
