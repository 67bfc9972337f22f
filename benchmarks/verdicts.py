"""Verdicts: what five seeds come to, and how often *holds* is true on images that it never saw.

    python benchmarks/verdicts.py                     # the bundled model
    python benchmarks/verdicts.py --shared ../shared  # and CIFAR-10's ResNets, EfficientNet-Lite0
    python benchmarks/verdicts.py --shared ../shared --models resnet18 --seeds 3 4 --images 500

Each model is compressed with the defaults and seeds 0 to 4: of everything that is drawn. The
verdict is that of all test images. How far it can be trusted is told by halves: the test images
are dealt into two halves many times, the verdict of one half is asked, and the other half, which
nothing was told of, says whether it was true: whether the change seen there is no lower than what
was allowed. (A change of a half is no more exact than the half: where the true change is just what
is allowed, half of all verdicts *holds* would seem false.)

Every run leaves its folder in the work folder; a run that is there and finished is not made again.
At the end the table in ``benchmarks/README.md`` is written anew, of all runs that are there.
"""

import argparse
import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cases import FASHION, Case, data_of, real
from tables import note_processor, replace_table, versions

import onnxsemi
from onnxsemi import LossError, RunOptions, SearchSettings, Settings, wording
from onnxsemi.arrays import BoolArray, Int64Array
from onnxsemi.measure.comparison import Comparison
from onnxsemi.measure.paired import Paired
from onnxsemi.run.kept import read_result
from onnxsemi.search.verdict import Outcome, verdict

SEEDS = range(5)
DEALS = 500


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("verdicts"), help="runs so far")
    parser.add_argument("--models", nargs="*", help="all that there are unless told")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--images", type=int, help="calibration images, for fewer than all")
    arguments = parser.parse_args()
    known = {"fashion": FASHION} | (real(arguments.shared) if arguments.shared else {})
    wanted = known if arguments.models is None else arguments.models
    for name, seed in product(wanted, arguments.seeds):
        case = known[name]
        if arguments.images is not None:
            case = replace(case, search_samples=min(arguments.images, case.search_samples))
        _make(case, seed, arguments.work / name)
    lines, dealt = [], []
    for name, case in known.items():
        runs = {seed: _read(path) for seed in SEEDS if (path := _folder(arguments, name, seed))}
        lines += [run.line(case.title, seed) for seed, run in runs.items()]
        if runs:
            dealt.append(_halves(case.title, list(runs.values())))
    table = [f"{versions(arguments.work)}.", "", *_HEAD, *lines, "", *_HALVES, *dealt]
    replace_table("verdicts", table)
    print("\n".join(table))


_HEAD = (
    "| model | seed | file smaller by | calibration images: change, 95 % interval "
    "| test images: change, 95 % interval | broken / fixed | KL, nats | verdict |",
    "|---|---|---|---|---|---|---|---|",
)
_HALVES = (
    "| verdict of one half, truth of the other | holds | unproven | fails "
    "| of *holds*: true | of *holds*: loss shown |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        document: Its result.
        before: bool[N], which test images the float model answers rightly.
        after: bool[N], which ones the written file does.
        same: bool[N], to which both give the same answer.
    """

    document: dict[str, Any]
    before: BoolArray
    after: BoolArray
    same: BoolArray

    def compared(self, images: Int64Array) -> Comparison:
        """Float against compressed on some of the test images."""
        paired = Paired.of(self.before[images], self.after[images])
        return Comparison(len(images), int(self.same[images].sum()), 0.0, paired)

    def line(self, title: str, seed: int) -> str:
        """A row of the table."""
        found = self.document
        report = self.compared(np.arange(len(self.before))).answers
        smaller = 1 - found["sizes"]["bytes_after"] / found["sizes"]["bytes_before"]
        searched = found["search"]
        low, high = (100 * end for end in searched["interval_95"])
        images = f"{searched['images']:,}"
        cells = (
            title,
            str(seed),
            f"{smaller:.2%}",
            f"{images}: {100 * searched['change']:+.2f} [{low:+.2f}, {high:+.2f}]",
            f"{len(self.before):,}: {wording.change(report)}",
            f"{report.lost} / {report.won}",
            f"{found['report']['kl_nats']:.4f}",
            found["verdict"]["outcome"],
        )
        return f"| {' | '.join(cells)} |"


def _folder(arguments: argparse.Namespace, name: str, seed: int) -> Path | None:
    """Where a finished run is."""
    path: Path = arguments.work / name / f"{seed}.run"
    return path if (path / "result.json").exists() else None


def _make(case: Case, seed: int, folder: Path) -> None:
    """The run of a seed, if it is not there."""
    path = folder / f"{seed}.run"
    if (path / "result.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    note_processor(folder.parent)
    print(f"{case.title}: seed {seed}", flush=True)
    settings = Settings(
        data=case.data,
        search=SearchSettings(),
        search_samples=case.search_samples,
        seed=seed,
        run=RunOptions(folder=path, resume=True),
    )
    search, report = (data_of(path, case.data) for path in (case.search, case.report))
    output = folder / f"{seed}.onnx"
    try:
        onnxsemi.compress(case.model, search, output=output, report_data=report, settings=settings)
    except LossError as error:
        print(f"  {error}")  # a verdict like the others: its run is kept


def _read(path: Path) -> Run:
    kept = read_result(path)
    labels, before, after = kept.evidence.labels, kept.evidence.before, kept.evidence.after
    document = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return Run(document, before == labels, after == labels, before == after)


def _halves(title: str, runs: list[Run]) -> str:
    """How verdicts of halves compare with what the other halves show."""
    guard = SearchSettings().guard(has_labels=True)
    found: Counter[Outcome] = Counter()
    true = shown = 0
    for number, run in enumerate(runs):
        rng = np.random.default_rng(number)
        for _ in range(DEALS):
            order, half = rng.permutation(len(run.before)), len(run.before) // 2
            asked, other = run.compared(order[:half]), run.compared(order[half:])
            outcome = verdict(guard, asked).outcome
            found[outcome] += 1
            if outcome is Outcome.HOLDS:
                true += other.answers.change >= -guard.asked / 100
                shown += verdict(guard, other).fails
    total, holds = found.total(), max(1, found[Outcome.HOLDS])
    shares = [f"{found[outcome] / total:.1%}" for outcome in Outcome]
    return f"| {' | '.join([title, *shares, f'{true / holds:.1%}', f'{shown / holds:.1%}'])} |"


if __name__ == "__main__":
    main()
