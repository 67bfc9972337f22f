"""What every command shares: one line for an error, and the exit code that goes with it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from onnxsemi._cli.console import say
from onnxsemi._cli.flags import with_flags
from onnxsemi._cli.output import NOT_SHOWN
from onnxsemi._errors import AccuracyError, OnnxSemiError
from onnxsemi._results.results import LossError

_PYDANTICS = "Value error, "
"""What newer versions of Typer put before the reason that a choice gives."""
_USAGE_ERROR: Any = typer.BadParameter.__base__  # UsageError, of click or of typer's own copy


class OneLineGroup(TyperGroup):
    """Commands whose errors are one line on standard error: what is wrong, where to look.

    The command line is wrong: exit code 2. A user's mistake: 1; a loss: 3; nothing holds: 4.
    """

    def main(self, *args: Any, **more: Any) -> Any:
        """Print what the terminal's encoding has no character for as its code."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **more)

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read what stands before the command."""
        with _one_line_usage():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Read what stands behind the command, and run it."""
        with _one_line_usage(), _one_line_errors(), interruptible():
            return super().invoke(ctx)


@contextmanager
def interruptible(run: Path | None = None) -> Iterator[None]:
    """Ctrl-C is one line and exit code 130; of a run it says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        saved = f"; what was measured is in {run}: the same command with --resume goes on from it"
        say("interrupted" + (saved if run and run.exists() else ""), error=True)
        raise typer.Exit(130) from None


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except OnnxSemiError as error:
        say(f"error: {with_flags(str(error))}", error=True)
        raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: OnnxSemiError) -> int:
    if isinstance(error, LossError):
        return NOT_SHOWN
    return 4 if isinstance(error, AccuracyError) else 1


@contextmanager
def _one_line_usage() -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no error: the help is shown
            raise
        said = " ".join(error.format_message().split()).rstrip(".").replace(_PYDANTICS, "")
        context = error.ctx
        where = "" if context is None else f"; see '{context.command_path} --help'"
        say(f"error: {said}{where}", error=True)
        raise typer.Exit(2) from None
