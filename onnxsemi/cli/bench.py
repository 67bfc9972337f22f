"""``onnxsemi bench``."""

from pathlib import Path
from typing import Annotated

import typer

from onnxsemi import pipeline, report
from onnxsemi.cli import options as opt
from onnxsemi.cli.frame import one_line_errors, progress_of, show

BenchModels = Annotated[
    list[Path], typer.Argument(help="ONNX files; the others are compared with the first.")
]
Batches = Annotated[
    list[int] | None,
    typer.Option("--batch", help="Images in a run; repeatable. 1 and 32 unless given."),
]
BenchThreads = Annotated[int, typer.Option("--threads", help="Threads of a session.")]
Rounds = Annotated[int, typer.Option(help="Times that everything is measured.")]


def bench(
    models: BenchModels,
    batch: Batches = None,
    threads: BenchThreads = 1,
    rounds: Rounds = 15,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Time models side by side: latency, load time, memory, bytes.

    Every model runs on noise in turn with the others, in a default ONNX Runtime session and as
    onnxsemi.load_session opens it. Times are shown as ratios to the first model.

    **Example:** onnxsemi bench model.onnx small.onnx
    """
    with one_line_errors(), progress_of(silent=quiet or as_json) as progress:
        result = pipeline.bench(
            models, batches=batch or (1, 32), threads=threads, rounds=rounds, progress=progress
        )
    show(report.bench_table(result), report.bench_document(result), as_json, quiet)
