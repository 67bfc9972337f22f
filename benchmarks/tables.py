"""Tables of Markdown files, between markers, and what they were measured with."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from onnxsemi import __about__
from onnxsemi._runtime.processor import Processor

README = Path(__file__).with_name("README.md")
_NAMES = {"onnxruntime": "ONNX Runtime"}
_NOTED, _UNKNOWN = "processors.json", "a processor that was not noted"


def replace_table(name: str, lines: list[str], page: Path = README) -> None:
    """Write the lines between the markers of a table."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text("\n".join([before + begin, *lines, end]) + after, encoding="utf-8")


def this_machine() -> str:
    """The processor and its cores, as a table names them."""
    cores = os.cpu_count()
    return f"{Processor.here().title}, {cores} core{'s' * (cores != 1)}"


def note_processor(work: Path) -> None:
    """Keep in a work folder that a row of it is measured on this machine: before it is.

    Tables are written from rows that may come from several machines.
    """
    path, noted = work / _NOTED, []
    if path.exists():
        noted = json.loads(path.read_text(encoding="utf-8"))
    elif any(work.rglob("*.json")) or any(work.rglob("*.jsonl")):
        noted = [_UNKNOWN]
    if this_machine() not in noted:
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([*noted, this_machine()]), encoding="utf-8")


def versions(work: Path | None = None, packages: tuple[str, ...] = ("onnxruntime",)) -> str:
    """Versions and processors that a table was measured with.

    Args:
        work: Folder of its rows; None if they were measured just now.
        packages: Whose versions are named.
    """
    machines = [this_machine()]
    if work is not None:
        path = work / _NOTED
        machines = json.loads(path.read_text("utf-8")) if path.exists() else [_UNKNOWN]
    parts = [f"onnxsemi {__about__.VERSION}"]
    parts += [f"{_NAMES.get(package, package)} {version(package)}" for package in packages]
    return f"{', '.join([*parts, f'Python {platform.python_version()}'])}; {' and '.join(machines)}"
