"""What differs between two files, as tables of 80 columns."""

from rich.console import Group, RenderableType

from onnxsemi._report.line import line
from onnxsemi._report.tables import plain_table
from onnxsemi._results.results import CompareResult


def compare_table(result: CompareResult) -> RenderableType:
    """Channels whose bits differ, then everything else that does."""
    head = line(f"{result.first} -> {result.second}")
    if result.same:
        return Group(head, line("no difference"))
    parts: list[RenderableType] = [head]
    if result.layers:
        table = plain_table("layer", "bits", "to")
        table.add_column("channels", overflow="fold")
        before = ""
        for found in result.layers:
            name = "" if found.layer == before else found.layer
            table.add_row(line(name), found.before, found.after, found.channels)
            before = found.layer
        parts.append(table)
    if result.settings:
        table = plain_table("", "first", "second")
        for what, (first, second) in result.settings.items():
            table.add_row(what, line(first), line(second))
        parts.append(table)
    return Group(*parts)
