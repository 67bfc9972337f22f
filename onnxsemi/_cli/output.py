"""How a command tells its result: as a table or as JSON, and by its exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from onnxsemi._cli.console import VisibleConsole, say
from onnxsemi._cli.terminal import LineProgress, LiveProgress, OnlyWarnings, warning_line
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._output_size import written_text
from onnxsemi._progress import Progress
from onnxsemi._report.document import Document, to_json
from onnxsemi._results import wording
from onnxsemi._results.results import ApplyResult, CompressResult

NOT_SHOWN = 3
"""Exit code: the test images show a loss; with --strict also: they do not show what was asked."""

Quiet = Annotated[
    bool,
    Option(
        help="Nothing but errors and warnings.",
        panel=Panel.PRINTED,
        flags=("--quiet", "-q"),
        decides=Decides.NOTHING,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Printed:
    """What is printed."""

    as_json: Annotated[bool, Option(Panel.PRINTED, flags=("--json",), decides=Decides.NOTHING)] = (
        False
    )
    """One JSON document with all that was measured instead of the table; no progress."""
    quiet: Quiet = False

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Progress on standard error: live on a terminal, lines elsewhere; warnings in any case."""
        console = VisibleConsole(stderr=True)
        if self.quiet or self.as_json:
            yield OnlyWarnings(console)
        elif console.is_interactive:
            with LiveProgress(console) as live:
                yield live
        else:
            yield LineProgress(console)

    def show(self, table: RenderableType, document: Document) -> None:
        """The result on standard output."""
        if self.as_json:
            text = to_json(document)
            written_text(text, "the JSON document")
            typer.echo(text)
        elif not self.quiet:
            VisibleConsole().print(table)


@dataclass(frozen=True, kw_only=True)
class PrintedVerdict(Printed):
    """What is printed of a result that is judged."""

    strict: Annotated[bool, Option(Panel.FILE, decides=Decides.NOTHING)] = False
    """Exit with 3 unless the test images show that what was asked for holds."""

    def end(self, result: CompressResult | ApplyResult) -> None:
        """Say what is not shown; if it is strict that is an exit code, too."""
        claim, report = result.verdict, result.report
        if claim is None or report is None or claim.holds:
            return
        say(warning_line(wording.verdict(claim, report)), error=True)
        if self.strict:
            raise typer.Exit(NOT_SHOWN)


@dataclass(frozen=True, kw_only=True)
class PrintedSearch(PrintedVerdict):
    """What is printed of a search."""

    verbose: Annotated[
        bool, Option(Panel.PRINTED, flags=("--verbose", "-v"), decides=Decides.NOTHING)
    ] = False
    """How the result was found, too: sizes, cost, how far estimates were right."""
    report: Annotated[Path | None, Option(Panel.RUN, metavar="FILE", decides=Decides.NOTHING)] = (
        None
    )
    """Write a report too: one HTML page, as 'report' does."""
