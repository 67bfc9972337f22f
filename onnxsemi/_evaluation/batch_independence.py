"""Whether an image's answer is its own: the same in whatever batch, and each time."""

import numpy as np
import onnx

from onnxsemi._data.images import ImageSet
from onnxsemi._errors import ModelError
from onnxsemi._model.head import Ends
from onnxsemi._model.outputs import with_outputs
from onnxsemi._runtime.batch_sizes import COMPANIONS
from onnxsemi._runtime.providers import CPU, Provider
from onnxsemi._runtime.sessions import Session

_TOLERANCE = 1e-3  # of the largest logit; another batch size changes float32 sums by 1e-6 of it


def check_own_answers(
    model: onnx.ModelProto, ends: Ends, images: ImageSet, provider: Provider = CPU
) -> None:
    """Run the first image beside others, and in a batch of nothing else.

    Args:
        model: The float model.
        ends: Names of its image input and logits.
        images: Images laid out for it, at least one.
        provider: What runs it.

    Raises:
        ModelError: If its logits are others then, or others each time.
    """
    batch = ends.image.batch or COMPANIONS
    if batch == 1:
        return
    first, others = images.rows(np.zeros(1, np.int64)), images.batch(0, batch)
    alone = np.repeat(first, batch, axis=0)
    beside = np.concatenate([others, alone])[:batch]
    session = Session(with_outputs(model, [ends.logits]).SerializeToString(), provider)
    once, again, other = (
        session.run({ends.image.name: feed})[ends.logits][0] for feed in (beside, beside, alone)
    )
    least = _TOLERANCE * float(np.abs(once).max())
    if np.abs(again - once).max() > least:
        raise ModelError(
            "the model gives the same image another answer each time: it holds something random; "
            "export it in evaluation mode"
        )
    if np.abs(other - once).max() > least:
        raise ModelError(
            "an image's answer depends on the other images of its batch: no plan can be judged by "
            "it; export the model in evaluation mode, or with batch size 1"
        )
