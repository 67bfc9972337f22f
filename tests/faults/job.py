"""A net that is compressed in a moment, the commands that faults are injected into, and one call.

Every call runs in a process of its own, forked from one that has imported everything: what Python
has open or has patched is gone with it. Its clocks stand still, so that all that it leaves follows
from the files that it found, and from the fault.
"""

import importlib
import os
import shutil
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from inject import Faults, inject, jump, stand_still
from onnx import numpy_helper, parser
from typer.main import get_command

from onnxsemi._cli import app

main = get_command(app)

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,6,6] image) => (float[N,3] scores) {
    a = Conv <pads = [1,1,1,1]> (image, a_w)
    b = Relu (a)
    pooled = GlobalAveragePool (b)
    flat = Flatten (pooled)
    scores = Gemm <transB = 1> (flat, fc_w)
}
"""
OUTPUTS = ("small.onnx", "small.plan.json")
OLD = b"what was there before"


@dataclass(frozen=True)
class Call:
    """What came of a command.

    Attributes:
        code: Its exit code; below 0 the signal that ended it.
        said: What it printed on standard error.
        seen: Operations that it began, where they were counted.
    """

    code: int
    said: str
    seen: tuple[tuple[str, str], ...] = ()


def make(folder: Path) -> None:
    """Put the net and its images into a folder."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(NET)
    for name, shape in {"a_w": (4, 3, 3, 3), "fc_w": (3, 4)}.items():
        values = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, folder / "model.onnx")
    for name, count in (("search", 24), ("report", 12)):
        x = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
        np.savez(folder / f"{name}.npz", x=x, y=rng.integers(0, 3, count))


def compress(*more: str) -> list[str]:
    """The command that makes small.onnx, in the folder of the net as all of them."""
    images = ("-d", "search.npz", "--test-data", "report.npz", "--rounding-samples", "8")
    given = ("--force", "--allow-loss", "--bits", "8,4", "--max-drop", "90", "--threads", "1", "-q")
    return ["compress", "model.onnx", *images, "-o", OUTPUTS[0], *given, *more]


COMMANDS = {
    "compress": compress(),
    "resume": compress("--resume"),
    "apply": ["apply", "small.run", "-o", "again.onnx", "--allow-loss", "-q"],
    "report": ["report", "small.run", "--out", "page.html", "-q"],
}


def call(folder: Path, command: str, faults: Faults | None = None, *, clock: bool = False) -> Call:
    """Run a command in a process of its own, in which an operation may fail, or the clock jump."""
    said, seen = folder.parent / f"{folder.name}.said", folder.parent / f"{folder.name}.seen"
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return Call(os.waitstatus_to_exitcode(status), said.read_text(), _operations(seen))
    code = 70
    try:
        os.chdir(folder)
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr, sys.stdout = os.fdopen(2, "w"), os.fdopen(1, "w")
        seen.unlink(missing_ok=True)
        if faults is not None:
            inject(faults)
        (jump if clock else stand_still)()
        try:
            main(COMMANDS[command])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        if faults is not None and faults.kind == "":
            faults.at = -1
            seen.write_text("\n".join("\t".join(each) for each in faults.seen))
            _imported(folder).write_text("\n".join(sys.modules))
    finally:
        os._exit(code)


def import_ahead(folder: Path) -> None:
    """Import what a command imported that was called in a folder: later calls need not again."""
    for name in _imported(folder).read_text().splitlines():
        with suppress(ImportError):  # a name that only a package's own code has put there
            importlib.import_module(name)


def _imported(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.imported"


def _operations(path: Path) -> tuple[tuple[str, str], ...]:
    if not path.exists():
        return ()
    pairs = (line.partition("\t") for line in path.read_text().splitlines())
    return tuple((what, name) for what, _, name in pairs)


def begin(folder: Path) -> Path:
    """A new folder with the net and its images, and outputs of before."""
    folder.mkdir(parents=True)
    make(folder)
    for name in (*OUTPUTS, "again.onnx", "again.plan.json", "page.html"):
        (folder / name).write_bytes(OLD)
    return folder


def again(before: Path, folder: Path) -> Path:
    """The same as another folder."""
    return Path(shutil.copytree(before, folder))
