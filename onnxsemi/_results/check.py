"""What ``check`` gives back: what ``compress`` will work with, and what to expect of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from onnxsemi._head import Head
from onnxsemi._model.float_parts import FloatWeights
from onnxsemi._results import wording
from onnxsemi._short_form import Brief


@dataclass(frozen=True)
class Forecast:
    """What a run is likely to take.

    Attributes:
        pass_seconds: Wall time of one float32 forward pass over the calibration images.
        images: Calibration images.
        passes: How many passes, from about to about.
        least_memory: Bytes that the process needs, from above.
        memory: Bytes that it may take.
    """

    pass_seconds: float
    images: int
    passes: tuple[int, int]
    least_memory: int
    memory: int

    @property
    def seconds(self) -> tuple[float, float]:
        """Wall time of the run, from about to about."""
        return self.passes[0] * self.pass_seconds, self.passes[1] * self.pass_seconds

    @property
    def image_forwards(self) -> tuple[int, int]:
        """Cost of the run in float32 forward passes of one image, from about to about."""
        return self.passes[0] * self.images, self.passes[1] * self.images

    @property
    def text(self) -> str:
        """Cost in words."""
        return wording.forwards(self.passes, self.images)


@dataclass(frozen=True)
class ClusterForecast:
    """What a run is likely to take on a cluster.

    Attributes:
        workers: How many work, each on one thread like those of this machine.
        seconds: Wall time of the run.
        efficiency: Time with one worker, over this one times the workers.
        serial: Seconds of it in which one machine works alone, or the network.
        moved: Bytes that go over the network.
    """

    workers: int
    seconds: float
    efficiency: float
    serial: float
    moved: float


@dataclass(frozen=True, eq=False, repr=False)
class CheckResult(Brief):
    """What ``compress`` will work with.

    Attributes:
        model: Its name: the path of its file.
        input_name: Name of the model's input.
        input_shape: Its shape; None for an axis of any size.
        classes: Classes that it tells apart, or labels that it judges.
        search_images: Calibration images: those to search on.
        report_images: Images that the search will never see.
        looked_at: Calibration images that the float model was run on.
        correct: How many of them it answers rightly; None without labels, or with a metric.
        targets: Layers that are quantized.
        target_bytes: Bytes of their weights in float32.
        file_bytes: Bytes of the model, external data included.
        left_float: What stays float32, largest first.
        asked: Percentage points that the interval of the change may reach down.
        shown: The least that the calibration images can show.
        images_needed: Calibration images that can show what is asked; None if none is.
        sizes: Bitwidth -> bytes of the file with it for all targets.
        forecast: Time and memory of a run.
        cluster: The same on a cluster, if that was asked for.
        warnings: What is likely to be wrong, and what these images cannot show.
        metric: Name of the metric; None without one.
        mean: Its mean over those that the float model was run on.
        head: What the model's scores are.
        notes: What a user should know of how the model is read, a sentence each.
    """

    model: str
    input_name: str
    input_shape: tuple[int | None, ...]
    classes: int
    search_images: int
    report_images: int
    looked_at: int
    correct: int | None
    targets: int
    target_bytes: int
    file_bytes: int
    left_float: tuple[FloatWeights, ...]
    asked: float
    shown: float
    images_needed: int | None
    sizes: Mapping[int, int]
    forecast: Forecast
    warnings: tuple[str, ...] = ()
    metric: str | None = None
    mean: float | None = None
    head: Head = Head.SOFTMAX
    notes: tuple[str, ...] = ()
    cluster: ClusterForecast | None = None

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """Model, accuracy, images, what is quantized, and how long a run takes."""
        answers = "no labels"
        if self.correct is not None:
            answers = f"{self.head.measured} {wording.share_interval(self.correct, self.looked_at)}"
        if self.metric is not None:
            answers = f"mean of {self.metric} {self.mean:.4f}"
        low, high = self.forecast.seconds
        images = f"{self.search_images:,} for calibration, {self.report_images:,} for the test"
        return (
            (
                "model",
                f"{self.model}, {self.file_bytes:,} bytes, {self.classes:,} {self.head.scored}",
            ),
            ("float model", f"{answers} on {self.looked_at:,} images"),
            ("images", images),
            ("quantized", f"{self.targets} layers, {self.target_bytes:,} bytes"),
            (
                "time",
                f"{low:.0f} to {high:.0f} s"
                if high < 120
                else f"{low / 60:.0f} to {high / 60:.0f} min",
            ),
        )
