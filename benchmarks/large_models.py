"""What a large model costs: memory, time and image-forwards of ``compress`` on few images.

    python benchmarks/large_models.py --model resnet152 --images 16 --max-memory 6GB

The models have seeded random weights, the images are seeded noise: nothing here says anything of
accuracy. Every stage is printed when it begins, with the seconds so far and the peak of
the process; at the end the peak and the wall time. What is measured is kept in a run, and
``--resume`` goes on with it after a kill.

    python benchmarks/large_models.py --model vgg16 --images 4 --delta-loss

measures Δloss and KL alone, and says in how many parts.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from random_resnets import MEAN, STD, random_images, random_resnet
from random_transformers import random_vit
from random_vgg import random_vgg
from tables import versions

import onnxsemi
from onnxsemi import DataOptions, OnnxSemiError, RunOptions, SearchSettings, Settings
from onnxsemi._data.load import load_images
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import read_model
from onnxsemi._progress import Silent
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._runtime.memory import default_memory, parse_memory, peak
from onnxsemi._search.guard import Guarantee
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.parts import parts_of

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet152": partial(random_resnet, 152),
    "wide_resnet50_2": partial(random_resnet, 50, wider=2),
    "vgg16": random_vgg,
    "vit_b_16": partial(random_vit, 1000, depth=12, width=768, heads=12),
}


class Stages(Silent):
    """Prints every stage with the time and the peak so far."""

    def __init__(self) -> None:
        """The clock begins."""
        self._begun = time.monotonic()

    def start(self, phase: str, total: int) -> None:
        """A stage begins."""
        seconds = time.monotonic() - self._begun
        print(f"{seconds:7.1f} s  peak {peak() / 2**20:6.0f} MB  {phase} ({total})", flush=True)


def main() -> None:
    """Make what is missing, compress, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(MODELS), default="resnet152")
    parser.add_argument("--images", type=int, default=16, help="to search on")
    parser.add_argument("--max-memory", default=None, help="such as 6GB")
    parser.add_argument(
        "--max-drop", type=float, default=None, help="points; the default if absent"
    )
    parser.add_argument("--tries", type=int, default=SearchSettings().most_tries)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, help="seconds, then the best so far is written")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was killed")
    parser.add_argument(
        "--delta-loss", action="store_true", help="Δloss and KL alone, of weights at nearest levels"
    )
    parser.add_argument("--work", type=Path, default=Path("large_models"), help="models and output")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    model = arguments.work / f"{arguments.model}.onnx"
    if not model.exists():
        onnx.save(MODELS[arguments.model](), model)
    files = {}
    for name, seed in (("search", 2), ("report", 3)):
        files[name] = arguments.work / f"{name}_{arguments.images}.npz"
        images, labels = random_images(arguments.images, seed)
        np.savez(files[name], x=images, y=labels)
    settings = Settings(
        data=DataOptions(mean=MEAN, std=STD),
        force=True,  # random weights and labels
        threads=arguments.threads,
        max_memory=arguments.max_memory and parse_memory(arguments.max_memory),
    )
    search = replace(settings.search, tries=arguments.tries)
    if arguments.max_drop is not None:
        search = replace(search, max_drop=arguments.max_drop, guarantee=Guarantee.POINT)
    run = RunOptions(
        folder=model.with_suffix(".run"), resume=arguments.resume, time_budget=arguments.budget
    )
    settings = replace(settings, search=search, run=run)
    if arguments.delta_loss:
        _delta_loss(model, files["search"], settings)
    else:
        _compress(model, files, settings)


def _delta_loss(model: Path, images: Path, settings: Settings) -> None:
    """Δloss and KL of every channel at 8 to 1 bits, in as many parts as memory asks for."""
    classifier = read_model(model, settings.model)
    image = classifier.ends.image
    data = load_images(images, image.name, image.shape, settings.data)
    memory = settings.max_memory or default_memory()
    workload = Workload(classifier, data, Nearest(settings.grids), settings.worker_threads, memory)
    names = [layer.name for layer in classifier.layers]
    begun = time.process_time()
    workload.forward(classifier.proto)
    one, parts = time.process_time() - begun, parts_of(classifier.layers, settings.search.bits)
    begun = time.process_time()
    measurement = FastMeasurement(
        workload, names, settings.search.bits, settings.seed, products=False
    )
    found = measurement.measure(Silent(), lambda: None)
    spent = time.process_time() - begun
    print(
        f"{model.stem}: {classifier.parameters / 1e6:.1f} M parameters, {len(data)} images, Δloss "
        f"of {sum(len(rows) for rows in found.kl_increase().nats.values()):,} channels in "
        f"{len(parts)} parts: {spent / one:.1f} passes, peak {peak() / 2**20:,.0f} MB"
    )


def _compress(model: Path, files: dict[str, Path], settings: Settings) -> None:
    begun = time.monotonic()
    print(f"{versions()}.")
    try:
        result = onnxsemi.compress(
            model,
            files["search"],
            output=model.with_suffix(".small.onnx"),
            test_data=files["report"],
            settings=settings,
            progress=Stages(),
        )
        print(f"file smaller by {100 * result.sizes.file:.1f}%, {result.cost.passes:.0f} passes")
    except OnnxSemiError as error:
        print(f"{type(error).__name__}: {error}")
    print(f"{model.stem}: peak {peak() / 2**20:.0f} MB, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
