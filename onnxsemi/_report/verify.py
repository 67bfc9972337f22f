"""``verify`` as a table."""

from rich.console import Group, RenderableType

from onnxsemi._report.line import line
from onnxsemi._results.verify import VerifyResult


def verify_table(result: VerifyResult) -> RenderableType:
    """The file, and what was compared."""
    return Group(line(f"{result.path}: whole"), *map(line, result.checked))
