"""What every command shares: one line for an error, progress, the result as table or JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, RenderableType
from typer.core import TyperGroup

from onnxsemi import wording
from onnxsemi.data.load import DataOptions, Preset
from onnxsemi.data.naming import read_class_names
from onnxsemi.errors import AccuracyError, OnnxSemiError, SettingsError
from onnxsemi.progress import Progress
from onnxsemi.results import ApplyResult, CompressResult, LossError
from onnxsemi.terminal import LineProgress, LiveProgress, OnlyWarnings, with_flags

NOT_SHOWN = 3
"""Exit code: the test images show a loss; with --strict also: they do not show what was asked."""
_USAGE_ERROR: Any = typer.BadParameter.__base__  # UsageError, of click or of typer's own copy


@contextmanager
def one_line_errors(run: Path | None = None) -> Iterator[None]:
    """One line on standard error: a user's mistake, exit code 1; a loss, 3; nothing holds, 4.

    Ctrl-C is 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        saved = f"; what was measured is in {run}: the same command with --resume goes on from it"
        typer.echo("interrupted" + (saved if run and run.exists() else ""), err=True)
        raise typer.Exit(130) from None
    except OnnxSemiError as error:
        typer.echo(f"error: {' '.join(with_flags(str(error)).split())}", err=True)
        raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: OnnxSemiError) -> int:
    if isinstance(error, LossError):
        return NOT_SHOWN
    return 4 if isinstance(error, AccuracyError) else 1


def warn(*messages: str | None) -> None:
    """A line each on standard error, whatever else is printed."""
    for message in filter(None, messages):
        typer.echo(f"warning: {' '.join(with_flags(message).split())}", err=True)


def end_by(result: CompressResult | ApplyResult, *, strict: bool) -> None:
    """Say what is not shown; with ``strict`` that is an exit code, too."""
    claim, report = result.verdict, result.report
    if claim is None or report is None or claim.holds:
        return
    warn(wording.verdict(claim, report))
    if strict:
        raise typer.Exit(NOT_SHOWN)


class OneLineGroup(TyperGroup):
    """Commands that answer a wrong command line with one line too: what is wrong, where to look."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read what stands before the command."""
        with _one_line_usage():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Read what stands behind the command, and run it."""
        with _one_line_usage():
            return super().invoke(ctx)


@contextmanager
def _one_line_usage() -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no error: the help is shown
            raise
        said = " ".join(error.format_message().split()).rstrip(".")
        context = error.ctx
        where = "" if context is None else f"; see '{context.command_path} --help'"
        typer.echo(f"error: {said}{where}", err=True)
        raise typer.Exit(2) from None


@contextmanager
def progress_of(*, silent: bool) -> Iterator[Progress]:
    """Progress on standard error: live on a terminal, lines elsewhere; warnings in any case."""
    console = Console(stderr=True)
    if silent:
        yield OnlyWarnings(console)
    elif console.is_interactive:
        with LiveProgress(console) as live:
            yield live
    else:
        yield LineProgress(console)


def show(table: RenderableType, document: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """The result on standard output."""
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False))
    elif not quiet:
        Console().print(table)


def data_options(
    mean: str | None,
    std: str | None,
    resize: int | None,
    crop: int | None,
    preset: Preset | None,
    classes: Path | None = None,
    labels: Path | None = None,
) -> DataOptions:
    """Preprocessing and labels from their flags."""
    return DataOptions(
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        resize=resize,
        crop=crop,
        preset=preset,
        classes=None if classes is None else read_class_names(classes),
        labels=labels,
    )


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{flag}: {text!r} is no list of numbers such as 0.5,0.5,0.5") from None
