"""One flipped bit of any file of a run is refused by the name of the file, or changes nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import frontier_command, run
from residual_net import save_noise, save_residual_net
from run_files import asked

from onnxsemi._errors import RunError
from onnxsemi._report.record import read_result
from onnxsemi._run.folder import check_spent, made_of, nothing_held
from onnxsemi._run.frontier_file import read_frontier
from onnxsemi._run.journal import Journal
from onnxsemi._run.looks import LOOKS, is_report
from onnxsemi._run.store import digest_of, read_arrays

FLIPS = 200


def arrays(folder: Path, name: str) -> object:
    return digest_of(read_arrays(folder / name, made_of(folder).measured_digest, ""))


def journal(folder: Path) -> object:
    Journal(folder / "journal.jsonl", made_of(folder).measured_digest)
    return asked(folder)


def result(folder: Path) -> object:
    kept = read_result(folder)
    return digest_of((kept.document, kept.evidence))


def frontier(folder: Path) -> object:
    kept = read_frontier(folder)
    return digest_of([(p.plan.sha256, p.correct, p.kl, p.predicted) for p in kept.points])


READERS: dict[str, Callable[[Path], object]] = {
    "run.json": made_of,
    "journal.jsonl": journal,
    "rounding.npz": lambda folder: arrays(folder, "rounding.npz"),
    "crossed.npz": lambda folder: arrays(folder, "crossed.npz"),
    "moments.npz": lambda folder: arrays(folder, "moments.npz"),
    "result.json": result,
    "evidence.npz": result,
    "frontier.json": frontier,
    "finished.json": nothing_held,
    "spent.json": lambda folder: check_spent(folder, made_of(folder)),
    LOOKS: lambda folder: is_report(folder, "0" * 64),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flips")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=40, seed=1)
    save_noise(folder / "report.npz", count=20, seed=2)
    small = ("--rounding-samples", "20", "--max-drop", "9", "--bits", "8,4", "-q")
    done = run(*frontier_command(folder, "small.onnx", *small))
    assert done.exit_code == 0, done.output
    return folder / "small.run"


def test_every_file_has_a_reader(finished: Path) -> None:
    apart = {".lock", "best.onnx", "best.plan.json"}  # those stand alone
    assert {path.name for path in finished.iterdir()} - apart == READERS.keys()


def refused(folder: Path, name: str) -> bool:
    """Whether the file is refused, by its name."""
    try:
        READERS[name](folder)
    except RunError as error:
        return name in str(error)
    return False


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit(finished: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(finished, tmp_path / "small.run")
    whole, expected = (folder / name).read_bytes(), READERS[name](folder)
    places = np.random.default_rng(0).integers(8 * len(whole), size=FLIPS)
    for place in [*places.tolist(), 0, 8 * len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        (folder / name).write_bytes(flipped)
        cut_short = name == "journal.jsonl" and flipped[-1:] != b"\n"
        allowed = expected[:-1] if cut_short else expected
        assert refused(folder, name) or READERS[name](folder) == allowed, place
    (folder / name).write_bytes(whole)
    assert READERS[name](folder) == expected
