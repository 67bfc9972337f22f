"""Which architectures are read, have a backward pass, compress, and are verified.

    pip install -e '.[bench]' torch==2.13.0 torchvision timm onnxscript tensorflow-cpu tf2onnx
    python benchmarks/architectures.py --work architectures
    python benchmarks/architectures.py --models resnet18 swin_t --exporters dynamo

Models of torchvision, timm and Keras with seeded random weights (``architecture_models.py``), small
images and 10 classes, exported by PyTorch's two exporters and by tf2onnx. The images are seeded
noise without labels: nothing here says anything of accuracy. Of each file a row tells

*targets*: which share of its float32 values is quantized, of all but tables of embeddings
(positions and class tokens too) and the scales and shifts of normalizations; and what is left.
*backward pass*: layers above an operator that has no reverse rule, with that operator.
*compress*: the command on few images with 8 and 4 bits, any loss allowed, verified; weights are
rounded as by default, in models of more than ``MOST_ROUNDED`` values to the nearest level.
*profiles*: every profile, channels at 8 and at 4 bits by turns, is written and verified.

Every row is made in a process of its own and kept as a line of ``benchmarks/architectures.jsonl``;
a row that is there is not made again: delete its line to make it anew. Exported files stay in the
work folder. At the end the table in ``docs/architectures.md`` is written anew.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from architecture_models import ARCHITECTURES, EXPORTERS, export, noise, opset
from architecture_shares import shares
from architectures_table import EXPORTING, Row, keep_row, read_rows, write_table
from tables import versions

import onnxsemi
from onnxsemi import (
    Calibration,
    ImageSet,
    Inputs,
    Profile,
    Ranges,
    RoundingMethod,
    RoundingSettings,
    Scheme,
    SearchSettings,
    Settings,
)
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.reader import read_model
from onnxsemi._pipeline.activations import calibrate
from onnxsemi._pipeline.output import Writer
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.rounded_plan import Nearest, rounded

IMAGES, TEST_IMAGES, VERIFIED = 8, 4, 2
BITS = (8, 4)
MOST_ROUNDED = 2_000_000
_NEAREST = RoundingSettings(
    ranges=Ranges.MINMAX,
    method=RoundingMethod.NEAREST,
    inputs=Inputs.FLOAT,
    bias_correction=False,
)


def main() -> None:
    """Make what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("architectures"), help="exported files")
    names = list(ARCHITECTURES)
    parser.add_argument("--models", nargs="*", choices=names, default=names)
    parser.add_argument("--exporters", nargs="*", choices=EXPORTERS, default=list(EXPORTERS))
    parser.add_argument("--row", action="store_true", help="make one row in this process")
    arguments = parser.parse_args()
    every = [(name, how) for name, found in ARCHITECTURES.items() for how in found.exporters]
    rows = [
        (name, exporter)
        for name, exporter in every
        if name in arguments.models and exporter in arguments.exporters
    ]
    if arguments.row:
        keep_row(make(*rows[0], arguments.work))
        return
    there = read_rows()
    for name, exporter in rows:
        if (name, exporter) not in there:
            print(f"{name}: {exporter}", flush=True)
            command = [sys.executable, __file__, "--work", arguments.work, "--row"]
            command += ["--models", name, "--exporters", exporter]
            subprocess.run([*map(str, command)], check=False)
    write_table(every)


def make(name: str, exporter: str, work: Path) -> Row:
    """Export a model and find out all that its row tells."""
    path = work / f"{name}.{exporter}.onnx"
    row: dict[str, Any] = {
        **{"model": name, "exporter": exporter, "library": ARCHITECTURES[name].library},
        **{"size": ARCHITECTURES[name].size, "exported": export(name, exporter, path)},
        **{"opset": opset(path), "made": versions(packages=("onnxruntime", *EXPORTING[exporter]))},
    }
    began = time.process_time()
    row["read"] = outcome(lambda: row.update(_told(name, path, read_model(path))))
    return row | {"seconds": time.process_time() - began}


def _told(name: str, path: Path, classifier: Classifier) -> Row:
    """All of a model that can be read."""
    found: dict[str, Any] = {"parameters": classifier.parameters, "shares": shares(classifier)}
    found["compress"] = outcome(lambda: found.update(_compressed(name, path, classifier)))
    found["profiles"] = {str(p): outcome(partial(_write, name, classifier, p)) for p in Profile}
    return found


def outcome(work: Callable[[], object]) -> str:
    """Do some work: yes, or what is wrong."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  one that is no OnnxSemiError is a finding, too
        return f"{type(error).__name__}: {error}"
    return "yes"


def _compressed(name: str, path: Path, classifier: Classifier) -> Row:
    """What ``compress`` makes of a model."""
    nearest = classifier.parameters > MOST_ROUNDED
    settings = Settings(
        search=SearchSettings(bits=BITS, max_drop=100.0, tries=0),
        rounding=_NEAREST if nearest else None,
        threads=1,
        force=True,  # as the images are few
        allow_loss=True,
    )
    with TemporaryDirectory(prefix="onnxsemi-") as folder:
        result = onnxsemi.compress(
            path,
            _images(name, IMAGES, seed=3),
            output=Path(folder) / "small.onnx",
            test_data=_images(name, TEST_IMAGES, seed=4),
            settings=settings,
        )
    return {
        **{"rounding": "nearest" if nearest else "default"},
        **{"missing": dict(result.sensitivity.missing)},
        **{"smaller": result.sizes.file, "kl": result.report.kl},
    }


def _write(name: str, classifier: Classifier, profile: Profile) -> None:
    """Write and verify a file with both bitwidths in every layer."""
    images, integers = _images(name, VERIFIED, seed=5), profile.quantizes_activations
    rounding = Nearest(Scheme.SYMMETRIC if integers else Scheme.ASYMMETRIC)
    codes = rounded(classifier.layers, _by_turns(classifier, profile), rounding)
    ranges = calibrate(classifier, images, Calibration.MINMAX) if integers else None
    workload = Workload(classifier, images, rounding, threads=1)
    with TemporaryDirectory(prefix="onnxsemi-") as folder:
        Writer(workload, profile, ranges).write(codes, Path(folder) / "small.onnx")


def _images(name: str, count: int, seed: int) -> ImageSet:
    return ImageSet("noise", noise(ARCHITECTURES[name], count, seed))


def _by_turns(classifier: Classifier, profile: Profile) -> BitPlan:
    """Channels at 8 and 4 bits by turns; one bitwidth a layer where a profile asks for it."""
    plan = BitPlan.uniform(classifier.layers, BITS[0])
    nodes = {node.name: node for node in classifier.proto.graph.node}
    for number, site in enumerate(classifier.sites):
        groups = {a.i for name in site.nodes for a in nodes[name].attribute if a.name == "group"}
        whole = profile is Profile.NODES and groups - {1}
        channels = range(site.layer.channels)
        if whole and number % 2:
            continue
        plan = plan.with_bits(site.layer.name, channels if whole else channels[1::2], BITS[1])
    return plan


if __name__ == "__main__":
    main()
