"""``onnxsemi compress``."""

from dataclasses import replace
from pathlib import Path

import typer

from onnxsemi import _pipeline as pipeline
from onnxsemi._atomic_file import check_writable
from onnxsemi._cli import options as opt
from onnxsemi._cli.command_line import command_line
from onnxsemi._cli.exit import interruptible
from onnxsemi._cli.output import PrintedSearch
from onnxsemi._report import compress_document, compress_table
from onnxsemi._report.page import check_page, write_page
from onnxsemi._settings import Settings


def compress(
    context: typer.Context,
    model: opt.ModelFile,
    data: opt.CalibrationImages,
    out: opt.OutFile,
    settings: Settings,
    printed: PrintedSearch,
    test_data: opt.TestImages = None,
) -> None:
    """Find the bitwidths and write the compressed model, verified.

    **Example:** onnxsemi compress model.onnx --data images.npz -o small.onnx

    Measures what quantizing each channel does to the softmax and the loss, and looks for the
    smallest plan of bitwidths that nothing on the calibration images speaks against. The written
    file is read back, compared bit for bit with what was measured, and judged by images that the
    search never saw: the verdict. The plan is written beside it, as NAME.plan.json, for 'apply'.

    Everything measured is kept in a folder, NAME.run: after Ctrl-C or a crash, the same command
    with --resume goes on from there and ends in the same file.

    **For integer kernels:** onnxsemi compress model.onnx --data images.npz -o small.onnx --profile
    int8
    """
    check_writable(out)
    folder = Path(settings.run.folder or out.with_suffix(".run"))
    run = replace(settings.run, folder=folder, command=command_line(context, compress))
    with interruptible(folder), printed.progress() as progress:
        if printed.report is not None:
            check_page(printed.report, folder, (model, data, out, out.with_suffix(".plan.json")))
        result = pipeline.compress(
            model,
            data,
            output=out,
            test_data=test_data,
            settings=replace(settings, run=run),
            progress=progress,
        )
        if printed.report is not None:
            write_page(folder, printed.report)
    printed.show(compress_table(result, verbose=printed.verbose), compress_document(result))
    printed.end(result)
