"""What labels are worth: the same search with and without them, and the true change of both.

    python benchmarks/label_free.py                     # the bundled model
    python benchmarks/label_free.py --shared ../shared  # and ResNet-20 on CIFAR-10

Every model is compressed twice, with the defaults: with labels, and from the same images without a
label, where the float model's own answers take their place. The labels of the test images are
looked at afterwards only. The two plans are compared channel by channel.

Every run leaves a JSON file in the work folder; one that is there already is not run again. At the
end the table in ``benchmarks/README.md`` is written anew, unless ``--images`` makes it a trial.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import FASHION, Case, trained
from tables import note_processor, replace_table, versions

import onnxsemi
from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import load_images
from onnxsemi._data.sample import stratified
from onnxsemi._model.head import find_ends
from onnxsemi._model.loader import load_proto
from onnxsemi._results import wording
from onnxsemi._stats.comparison import Comparison

RUNS = ("with labels", "without labels")


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, help="folder with models/ and data/, for ResNet-20")
    parser.add_argument("--work", type=Path, default=Path("label_free"), help="results so far")
    parser.add_argument("--images", type=int, help="images to search and to report on; for a trial")
    arguments = parser.parse_args()
    cases = {"fashion": FASHION}
    if arguments.shared is not None:
        cases["resnet20"] = trained(arguments.shared)["resnet20"]
    lines = []
    for name, case in cases.items():
        folder = arguments.work / name
        folder.mkdir(parents=True, exist_ok=True)
        lines += _rows(case, {run: _found(case, run, folder, arguments.images) for run in RUNS})
    lines = [f"{versions(arguments.work)}.", "", *_head(), *lines]
    if arguments.images is None:
        replace_table("label_free", lines)
    print("\n".join(lines))


def _found(case: Case, run: str, folder: Path, count: int | None) -> dict[str, Any]:
    """The result of a run, from its file if there is one."""
    path = folder / (f"{run}.json" if count is None else f"{run} of {count}.json")
    if not path.exists():
        print(f"{case.title}: {run}", flush=True)
        note_processor(folder.parent)
        result = _run(case, run, path.with_suffix(".onnx"), count)
        path.write_text(json.dumps(result), encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _run(case: Case, run: str, output: Path, count: int | None) -> dict[str, Any]:
    """Compress, then measure the file with the labels of the test images."""
    search, report = (_images(case, path, count) for path in (case.search, case.report))
    given = [search, report]
    if run == "without labels":
        given = [replace(images, labels=None) for images in given]
    result = onnxsemi.compress(case.model, given[0], test_data=given[1], output=output)
    true = onnxsemi.evaluate(output, report, reference=case.model).comparison
    assert true is not None
    assert (true.same, true.kl) == (result.report.same, result.report.kl)
    return {
        "smaller": result.sizes.file,
        "mean_bits": result.plan.mean_bits,
        "bits": result.plan.channel_bits.tolist(),
        "images": true.images,
        "same": true.same,
        "agreement": wording.share_interval(true.same, true.images),
        "kl": true.kl,
        **_changes(true),
    }


def _changes(true: Comparison) -> dict[str, str]:
    assert true.top1 is not None
    assert true.top5 is not None
    return {
        "top1": wording.change(true.top1),
        "counts": f"{true.top1.broken} / {true.top1.fixed} of {true.images:,}",
        "p": wording.p_value(true.top1),
        "top5": wording.change(true.top5),
    }


def _images(case: Case, path: Path, count: int | None) -> ImageSet:
    image = find_ends(load_proto(case.model), None).image
    images = load_images(path, image.name, image.shape, case.data)
    if count is None:
        return images
    assert images.labels is not None
    return images.select(stratified(images.labels, count, 0))


def _head() -> list[str]:
    headings = (
        *("model", "search", "file smaller by", "bits a weight", "channels with the same bitwidth"),
        *("mean difference, bits", "agreement, 95 % interval", "KL, nats"),
        *("true change of top-1, 95 % interval", "broken / fixed", "McNemar p", "of top-5"),
    )
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]


def _rows(case: Case, found: dict[str, dict[str, Any]]) -> list[str]:
    """Both runs of a model; plans are compared with that of the first."""
    bits = [np.array(found[run]["bits"]) for run in RUNS]
    same, apart = np.mean(bits[0] == bits[1]), np.mean(np.abs(bits[0] - bits[1]))
    plans = {RUNS[0]: ("", ""), RUNS[1]: (f"{same:.1%}", f"{apart:.2f}")}
    rows = []
    for run in RUNS:
        row = found[run]
        cells = [
            *(case.title, run, f"**{row['smaller']:.2%}**", f"{row['mean_bits']:.2f}", *plans[run]),
            *(row["agreement"], f"{row['kl']:.4f}", row["top1"], row["counts"], row["p"]),
            row["top5"],
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


if __name__ == "__main__":
    main()
