"""The models that are measured, with their data and how many images are used."""

from dataclasses import dataclass
from pathlib import Path

from random_resnets import MEAN, STD

from onnxsemi import DataOptions

BUNDLED = Path(__file__).parents[1] / "models"


@dataclass(frozen=True)
class Case:
    """A model with its data.

    Attributes:
        title: As tables name it.
        model: The float ONNX file.
        search: Images to search on.
        report: Images that the search never sees.
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
