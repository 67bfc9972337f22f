"""``onnxsemi check``."""

from typing import Annotated

from onnxsemi import _pipeline as pipeline
from onnxsemi._cli import options as opt
from onnxsemi._cli.output import Printed
from onnxsemi._option import Without
from onnxsemi._report import check_document, check_table
from onnxsemi._settings import Settings

_WRITING = Without(frozenset({"run", "allow_loss", "bench"}))


def check(
    model: opt.ModelFile,
    data: opt.CalibrationImages,
    settings: Annotated[Settings, _WRITING],
    printed: Printed,
    test_data: opt.TestImages = None,
    workers: opt.Workers = None,
) -> None:
    """Look at a model and images before compressing, in seconds: what to expect, what is odd.

    Says what the input is, how accurate the float model is on these images, which weights are
    quantized and which stay float32 and why, whether the images can show what is asked, and what a
    run will take. Whatever 'compress' would refuse is refused here.

    **Example:** onnxsemi check model.onnx --data images.npz
    """
    with printed.progress() as progress:
        result = pipeline.check(
            model,
            data,
            test_data=test_data,
            settings=settings,
            progress=progress,
            workers=workers,
        )
    printed.show(check_table(result), check_document(result))
