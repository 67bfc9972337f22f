"""The models that are measured, with their data and how many images are used."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from random_resnets import MEAN, STD

from onnxsemi import DataOptions, ImageSet, Normalization
from onnxsemi._data.load import Data

BUNDLED = Path(__file__).parents[1] / "models"


@dataclass(frozen=True)
class Case:
    """A model with its data.

    Attributes:
        title: As tables name it.
        model: The float ONNX file.
        search: Images to search on: a file, or a folder of :func:`labelled_files`.
        report: Images that the search never sees, likewise.
        data: Preprocessing.
        search_samples: Images taken from ``search``.
        delta_loss_samples: Images taken from those for Δloss.
        compared: Images that fast and exact Δloss are compared on; 0 for not at all.
        every: Of the channels that are compared, one in so many.
    """

    title: str
    model: Path
    search: Path
    report: Path
    data: DataOptions
    search_samples: int
    delta_loss_samples: int
    compared: int = 0
    every: int = 1


FASHION = Case(
    "Fashion-MNIST ResNet-20 (bundled)",
    BUNDLED / "fashion_resnet20.onnx",
    BUNDLED / "fashion_search.npz",
    BUNDLED / "fashion_report.npz",
    DataOptions(),
    search_samples=2000,
    delta_loss_samples=512,
    compared=256,
)


def trained(shared: Path) -> dict[str, Case]:
    """The trained models by short name."""
    data = shared / "data"
    cifar = {"search": data / "cifar10_search.npz", "report": data / "cifar10_report.npz"}
    return {
        "fashion": FASHION,
        "resnet20": Case(
            "CIFAR-10 ResNet-20",
            shared / "models/resnet20_cifar10.onnx",
            **cifar,
            data=DataOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            search_samples=4000,
            delta_loss_samples=512,
            compared=256,
        ),
        "resnet18": Case(
            "CIFAR-10 ResNet-18",
            shared / "models/resnet18_cifar10.onnx",
            **cifar,
            data=DataOptions(mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616)),
            search_samples=1000,
            delta_loss_samples=512,
            compared=32,
            every=4,
        ),
    }


def real(shared: Path) -> dict[str, Case]:
    """Models with real weights and real images by short name."""
    imagenet = shared / "data/imagenet"
    efficientnet = Case(
        "ImageNet EfficientNet-Lite0",
        shared / "models/efficientnet_lite0_imagenet.onnx",
        imagenet / "search",
        imagenet / "report",
        DataOptions(mean=(0.498,), std=(0.502,)),
        search_samples=500,
        delta_loss_samples=512,
    )
    known = trained(shared)
    names = ("resnet20", "fashion", "resnet18")
    return {"efficientnet": efficientnet} | {name: known[name] for name in names}


def data_of(path: Path, options: DataOptions) -> Data:
    """What the package reads of a case: a path, or the images of a labelled folder."""
    labelled = path / "labels.csv"
    return labelled_files(labelled, options) if labelled.exists() else path


def labelled_files(table: Path, options: DataOptions) -> ImageSet:
    """Images of one size beside a table of their names and labels.

    Args:
        table: CSV with the columns ``file`` and ``label``.
        options: Mean and standard deviation.
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pixels = [np.asarray(Image.open(table.parent / row["file"]).convert("RGB")) for row in rows]
    labels = np.array([int(row["label"]) for row in rows])
    normalization = Normalization(mean=options.mean or (0.0,), std=options.std or (1.0,))
    return ImageSet(str(table.parent), np.stack(pixels), labels, normalization)


def random(work: Path) -> dict[str, Case]:
    """ResNets for 224x224 images with random weights; the files are in ``work``."""
    return {
        f"random{depth}": Case(
            f"ResNet-{depth}, 224x224, random weights",
            work / f"random{depth}.onnx",
            work / "random_search.npz",
            work / "random_report.npz",
            DataOptions(mean=MEAN, std=STD),
            search_samples=256,
            delta_loss_samples=128,
        )
        for depth in (18, 34, 50)
    }
