"""What is printed, and how: text that comes from models, labels and files steers no terminal."""

from collections.abc import Iterable

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from onnxsemi._visible import shown_line, visible


class VisibleConsole(Console):
    """A console that passes on nothing a terminal would obey but its own styles."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of what is shown, each visible."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            seen = control or text.isprintable()
            yield segment if seen else Segment(visible(text), style, control)


def say(text: str, *, error: bool = False) -> None:
    """Print a line, on standard output or standard error."""
    typer.echo(shown_line(text), err=error)
