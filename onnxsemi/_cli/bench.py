"""``onnxsemi bench``."""

from onnxsemi import _pipeline as pipeline
from onnxsemi import _report as report
from onnxsemi._cli import options as opt
from onnxsemi._cli.output import Printed
from onnxsemi._settings import BenchSettings


def bench(models: opt.BenchModels, settings: BenchSettings, printed: Printed) -> None:
    """Time models side by side: latency, load time, memory, bytes.

    Every model runs on noise in turn with the others, in a default ONNX Runtime session and as
    onnxsemi.load_session opens it. Times are shown as ratios to the first model.

    **Example:** onnxsemi bench model.onnx small.onnx
    """
    with printed.progress() as progress:
        result = pipeline.bench(models, settings=settings, progress=progress)
    printed.show(report.bench_table(result), report.bench_document(result))
