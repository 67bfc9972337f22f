"""Commands to copy: quoted so that a shell takes them for what they are, whatever a path holds."""

import os
import shlex
from collections.abc import Sequence

from onnxsemi._report.page.markup import Markup, tag
from onnxsemi._report.page.run import Run
from onnxsemi._run.frontier import KeptPoint
from onnxsemi._run.point_choice import text_of


def quoted(words: Sequence[str]) -> str:
    r"""Words for a POSIX shell; what cannot be printed is written as bash, zsh and ksh know it.

    >>> quoted(["apply", "my run", "a\x1bb"])
    "apply 'my run' $'a\\x1bb'"
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def apply_command(run: Run, point: KeptPoint) -> str:
    """Writes a point of a run, beside the file that the run wrote and under a name of its own."""
    at, kept = text_of(point, run.frontier), run.frontier
    output = os.path.splitext(run.kept.document.output)[0]  # noqa: PTH122  a path of any system
    form = () if kept.profile == "qdq" else ("--profile", kept.profile)
    name = f"{output}-{at.removeprefix('plan:').removesuffix('%')}.onnx"
    model = kept.source.placeholder
    return quoted(("onnxsemi", "apply", str(run.path), *model, "--at", at, *form, "--out", name))


def to_copy(command: str) -> Markup:
    """A command with a button; the script shows the button, as only it can copy."""
    button = tag(
        "button", "Copy", type="button", class_="copy", hidden=True, aria_label=f"Copy: {command}"
    )
    return tag("span", button, tag("code", command), class_="command")


def _escaped(word: str) -> str:
    plain = (
        chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"
        for byte in word.encode("utf-8", "surrogateescape")
    )
    return "$'" + "".join("\\" + c if c in "\\'" else c for c in plain) + "'"
