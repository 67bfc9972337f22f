"""Verdicts: what five seeds come to, and how often *holds* is true on images that it never saw.

    python benchmarks/verdicts.py                     # the bundled model
    python benchmarks/verdicts.py --shared ../shared  # and CIFAR-10's ResNets, EfficientNet-Lite0
    python benchmarks/verdicts.py --shared ../shared --models resnet18 --seeds 3 4 --images 150

Each model is compressed with the defaults and seeds 0 to 4: of everything that is drawn. The
verdict is that of all test images. How far it can be trusted is told by halves: the test images
are dealt into two halves many times, the verdict of one half is asked, and the other half, which
nothing was told of, says whether it was true: whether the change seen there is no lower than what
was allowed. (A change of a half is no more exact than the half: where the true change is just what
is allowed, half of all verdicts *holds* would seem false.)

``--images`` takes fewer calibration images than the model's; such runs stand apart in the table.

Every run leaves its folder in the work folder, and a row in ``benchmarks/verdicts.jsonl``, with the
answers to all test images; a row that is there is not made again: delete its line to make it anew.
At the end the table in ``benchmarks/README.md`` is written from all rows.
"""

import argparse
import base64
import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cases import FASHION, Case, data_of, real
from tables import replace_table, versions

import onnxsemi
from onnxsemi import LossError, RunOptions, SearchSettings, Settings
from onnxsemi._arrays import BoolArray, Int64Array
from onnxsemi._report.record import read_result
from onnxsemi._results import wording
from onnxsemi._search.verdict import Outcome, verdict
from onnxsemi._stats.comparison import Comparison
from onnxsemi._stats.paired import Paired

ROWS = Path(__file__).with_name("verdicts.jsonl")
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
    for model, seed in product(wanted, arguments.seeds):
        name, case = model, known[model]
        if arguments.images is not None:
            name, title = f"{model}_{arguments.images}", f"{case.title}, {arguments.images} images"
            case = replace(case, title=title, search_samples=arguments.images)
        if (name, seed) not in _rows():
            _keep(name, seed, _made(case, seed, arguments.work / name))
    lines, dealt, rows = [], [], _rows()
    for name in dict.fromkeys(name for name, _ in rows):
        runs = {seed: row for (of, seed), row in sorted(rows.items()) if of == name}
        lines += [run.line(seed) for seed, run in runs.items()]
        dealt.append(_halves(list(runs.values())))
    made = dict.fromkeys(row.found["made"] for row in rows.values())
    table = [*(f"{line}." for line in made), "", *_HEAD, *lines, "", *_HALVES, *dealt]
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
        found: What is told of it.
        before: bool[N], which test images the float model answers rightly.
        after: bool[N], which ones the written file does.
        same: bool[N], to which both give the same answer.
    """

    found: dict[str, Any]
    before: BoolArray
    after: BoolArray
    same: BoolArray

    def compared(self, images: Int64Array) -> Comparison:
        """Float against compressed on some of the test images."""
        paired = Paired.of(self.before[images], self.after[images])
        return Comparison(len(images), int(self.same[images].sum()), 0.0, paired)

    def line(self, seed: int) -> str:
        """A row of the table."""
        found = self.found
        report = self.compared(np.arange(len(self.before))).answers
        low, high = (100 * end for end in found["interval_95"])
        cells = (
            found["title"],
            str(seed),
            f"{found['smaller']:.2%}",
            f"{found['images']:,}: {100 * found['change']:+.2f} [{low:+.2f}, {high:+.2f}]",
            f"{len(self.before):,}: {wording.change(report)}",
            f"{report.broken} / {report.fixed}",
            f"{found['kl_nats']:.4f}",
            found["outcome"],
        )
        return f"| {' | '.join(cells)} |"


def _rows() -> dict[tuple[str, int], Run]:
    """Short name of the model and seed -> its run."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return {(row["model"], row["seed"]): _read(row) for row in map(json.loads, lines)}


def _read(row: dict[str, Any]) -> Run:
    count = row["test_images"]
    packed = (np.frombuffer(base64.b64decode(text), np.uint8) for text in row["answers"])
    return Run(row, *(np.unpackbits(own, count=count).astype(bool) for own in packed))


def _keep(name: str, seed: int, made: tuple[str, Path]) -> None:
    """Add the row of a finished run."""
    title, path = made
    kept = read_result(path)
    document = kept.document
    labels, before, after = kept.evidence.labels, kept.evidence.before, kept.evidence.after
    answers = (before == labels, after == labels, before == after)
    sizes, searched = document.sizes, document.search
    row = {
        "model": name,
        "seed": seed,
        "made": versions(),
        "title": title,
        "smaller": 1 - sizes.bytes_after / sizes.bytes_before,
        "bytes": sizes.bytes_after,
        "images": searched.total,
        "change": searched.change,
        "interval_95": searched.interval,
        "kl_nats": document.report.kl,
        "outcome": document.verdict.outcome,
        "passes": document.cost.passes,
        "test_images": len(labels),
        "answers": [base64.b64encode(np.packbits(own)).decode() for own in answers],
    }
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _made(case: Case, seed: int, folder: Path) -> tuple[str, Path]:
    """Title of the model, and the finished run of a seed; it is made if it is not there."""
    path = folder / f"{seed}.run"
    if (path / "result.json").exists():
        return case.title, path
    folder.mkdir(parents=True, exist_ok=True)
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
        onnxsemi.compress(case.model, search, output=output, test_data=report, settings=settings)
    except LossError as error:
        print(f"  {error}")  # a verdict like the others: its run is kept
    return case.title, path


def _halves(runs: list[Run]) -> str:
    """How verdicts of halves compare with what the other halves show."""
    guard = SearchSettings().strategy.guard(has_labels=True)
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
    total, holds = found.total(), found[Outcome.HOLDS]
    shares = [f"{found[outcome] / total:.1%}" for outcome in Outcome]
    of_holds = [f"{count / holds:.1%}" for count in (true, shown)] if holds else ["", ""]
    cells = [runs[0].found["title"], *shares, *of_holds]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
