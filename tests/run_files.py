"""Files of a run as tests read, and change, them."""

import json
from pathlib import Path
from typing import Any

from onnxsemi._run.store import NO_RUN, write


def content(path: Path) -> dict[str, Any]:
    """What is sealed in a JSON file."""
    return json.loads(path.read_text())["content"]


def lines(folder: Path) -> list[dict[str, Any]]:
    """What the journal of a run holds."""
    texts = (folder / "journal.jsonl").read_bytes().splitlines()
    return [json.loads(text)["content"] for text in texts]


def asked(folder: Path) -> list[tuple[str, str]]:
    """Questions of the journal, each as often as it was measured."""
    return [(line["ask"], line["of"]) for line in lines(folder)]


def change_head(folder: Path, **changes: Any) -> None:
    """Write the head of a run anew, sealed."""
    path = folder / "run.json"
    write(path, content(path) | changes, NO_RUN)
