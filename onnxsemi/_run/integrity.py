"""Whether the files of a run are whole, and of this run; nothing is changed."""

from collections.abc import Callable, Mapping
from pathlib import Path

from onnxsemi._run.folder import check_end, check_spent, made_of
from onnxsemi._run.journal import check_lines
from onnxsemi._run.looks import LOOKS, is_report
from onnxsemi._run.store import read_arrays

_REMEDY = "delete it, and the command that made the run, with `resume`, measures it again"


def check_files(folder: Path) -> int:
    """Read every file of a run by its digest, but for the result and the frontier.

    Returns:
        How many there are, the head included.

    Raises:
        RunError: With the first that is damaged, or of another run.
    """
    head = made_of(folder)

    def arrays(path: Path) -> object:
        return read_arrays(path, head.measured_digest, _REMEDY)

    readers: Mapping[str, Callable[[Path], object]] = {
        "journal.jsonl": lambda path: check_lines(path, head.measured_digest),
        "rounding.npz": arrays,
        "crossed.npz": arrays,
        "moments.npz": arrays,
        "spent.json": lambda _: check_spent(folder, head),
        "finished.json": lambda _: check_end(folder),
        LOOKS: lambda _: is_report(folder, ""),
    }
    found = [name for name in readers if (folder / name).exists()]
    for name in found:
        readers[name](folder / name)
    return 1 + len(found)
