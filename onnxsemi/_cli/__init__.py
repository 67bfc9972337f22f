"""The command line: the only room that prints, and that turns an error into an exit code.

One module a command. Exit codes: 0 done; 1 the model, the data, the plan or a setting cannot be
used; 2 the command line itself is wrong; 3 the test images show a loss; 4 nothing holds what was
asked; 130 interrupted.
"""

from typing import Annotated

import typer

from onnxsemi import __about__
from onnxsemi._cli.apply import apply
from onnxsemi._cli.bench import bench
from onnxsemi._cli.check import check
from onnxsemi._cli.compress import compress
from onnxsemi._cli.evaluate import evaluate
from onnxsemi._cli.exit import OneLineGroup
from onnxsemi._cli.help import NAMES
from onnxsemi._cli.inspect import inspect
from onnxsemi._cli.parameters import add_command
from onnxsemi._cli.pareto import pareto
from onnxsemi._cli.report import report
from onnxsemi._cli.verify import verify

_EPILOG = """**Example:** onnxsemi compress model.onnx --data images.npz -o small.onnx

**Exit codes:** 0 done; 1 the model, the data, the plan or a setting cannot be used (one line on
standard error says why); 2 wrong command line; 3 the test images show a loss, and nothing was
written; 4 no plan holds what was asked; 130 interrupted.

Results go to standard output, progress to standard error. NO_COLOR=1 turns colour off.
"""

COMMANDS = (check, compress, apply, evaluate, inspect, verify, pareto, bench, report)
"""In the order of the help."""

app = typer.Typer(
    cls=OneLineGroup,
    context_settings=NAMES,
    help="Make a trained ONNX classifier much smaller without losing accuracy, and without "
    "retraining: mixed-precision quantization by semilayers (Matsumoto et al., PMLR 222, 2024).",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onnxsemi {__about__.VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


for command in COMMANDS:
    add_command(app, command)
