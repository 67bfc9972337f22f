"""Parts of the documents of results (:mod:`onnxsemi._report.document`).

Names in JSON are the fields', or those that ``rename`` gives. A field that defaults to None stands
there only where it is known; any other that may be None is null.
"""

from msgspec import UNSET, Struct, UnsetType

from onnxsemi._results.timings import TimeSpread
from onnxsemi._runtime.processor import Processor

Interval = tuple[float, float]


class Part(Struct, frozen=True, omit_defaults=True):
    """A part of a document."""


class Sizes(Part, frozen=True):
    """Shares that were saved, 0 to 1, and bytes."""

    targets: float
    model: float
    file: float
    bytes_before: int
    bytes_after: int
    payload_bytes: int
    overhead: float
    gzip_bytes: int


class Compared(
    Part,
    frozen=True,
    rename={
        "total": "images",
        "before": "correct_before",
        "after": "correct_after",
        "interval": "interval_95",
        "p_value": "mcnemar_p",
        "agreement_interval": "agreement_interval_95",
        "kl": "kl_nats",
    },
):
    """Two models on the same images: by right answers, or by a metric; and by agreement."""

    total: int
    metric: str | None = None
    mean_before: float | None = None
    mean_after: float | None = None
    before: int | None = None
    after: int | None = None
    broken: int | None = None
    fixed: int | None = None
    change: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    top5: "Compared | None" = None
    same: int | None = None
    agreement: float | None = None
    agreement_interval: Interval | None = None
    kl: float | None = None
    summary: tuple[str, ...] = ()


class VerdictPart(Part, frozen=True, rename={"asked": "asked_points"}):
    """What may be claimed, and what to do next."""

    outcome: str
    summary: str
    reason: str
    asked: float
    interval: Interval
    coverage: float
    looks: int
    images_needed: int | None
    next_command: str | None


class FindingPart(Part, frozen=True, rename={"asked": "asked_points", "allowed": "allowed_points"}):
    """What was asked on the calibration images, and what they were judged by."""

    asked: float
    allowed: float
    images_needed: int | None
    summary: str


class AgreementPart(Part, frozen=True):
    """Fast against exact at one width."""

    bits: int | float
    channels: int
    same_sign: float
    delta_loss_rank: float
    semilayers: int
    kl_rank: float


class SensitivityPart(
    Part,
    frozen=True,
    rename={
        "samples": "images",
        "exact_delta_loss": "exact_delta_loss_bits",
        "exact_kl": "exact_kl_bits",
        "missing": "layers_without_backward_pass",
        "estimated": "layers_estimated_from_output",
        "reliability": "channel_reliability",
    },
):
    """How Δloss and KL were measured."""

    samples: int
    agreement: tuple[AgreementPart, ...]
    exact_delta_loss: tuple[int | float, ...]
    exact_kl: tuple[int | float, ...]
    missing: dict[str, str]
    estimated: tuple[str, ...]
    reliability: dict[str, float]


class CostPart(Part, frozen=True):
    """What the run took; image-forwards are float32 forward passes of one image."""

    seconds: float
    cpu_seconds: float
    pass_cpu_seconds: float
    passes: float
    image_forwards: float
    trials: int


class CodedPart(Part, frozen=True, rename={"bits": "bits_a_weight"}):
    """What the codes of an entropy-coded layer are."""

    levels: int
    bits: float


class PlanPart(Part, frozen=True, rename={"parameters": "target_parameters"}):
    """Bits of every target channel; what entropy-coded layers are."""

    compression: float
    mean_bits: float
    parameters: int
    layers: dict[str, tuple[int | float, ...]]
    coded: dict[str, CodedPart] | UnsetType = UNSET


class Counted(Part, frozen=True, kw_only=True):
    """Right answers, those of the float model, or the mean of a metric."""

    correct: float | int | UnsetType | None = UNSET
    same: float | int | UnsetType | None = UNSET
    mean: float | UnsetType | None = UNSET


class Score(
    Counted,
    frozen=True,
    rename={"total": "images", "measured": "images_measured", "loss": "loss_nats"},
):
    """How a model does on images."""

    total: int
    measured: int
    loss: float | None

    @property
    def right(self) -> float:
        """Answers that count as right; or the sum of a metric."""
        if isinstance(self.mean, float):
            return self.mean * self.total
        return next(int(n) for n in (self.correct, self.same) if isinstance(n, int | float))


class PointPart(Score, frozen=True):
    """A point of the trajectory."""

    trial: int
    phase: str
    bits: int | float | None
    compression: float
    saved_parameters: float


class TrialPart(Score, frozen=True):
    """A decision of the search."""

    number: int
    phase: str
    bar: float | int | None
    decision: str
    reason: str
    layer: str | None = None
    sign: str | None = None
    channels: str | None = None
    bits: int | float | None = None
    kl_nats: float | None = None
    sensitivity: float | None = None
    compression: float | None = None
    changed: int | None = None
    broken: int | None = None
    fixed: int | None = None
    predicted_kl_nats: float | None = None
    measured_kl_nats: float | None = None


class SkippedPart(Part, frozen=True, rename={"name": "layer"}):
    """A layer that is no target."""

    name: str
    reason: str


class KernelsPart(Part, frozen=True, rename={"floating": "float32"}):
    """Target node -> integer kernel, or why it runs in float32."""

    integer: dict[str, str]
    floating: dict[str, str]


class BenchRowPart(Part, frozen=True, rename={"folded": "load_session"}):
    """A model, opened in one way; latency by the images of a run."""

    model: str
    folded: bool
    file_bytes: int
    load: TimeSpread
    peak_bytes: int
    latency: dict[str, TimeSpread]


class BenchPart(Part, frozen=True):
    """Models side by side."""

    threads: int
    rounds: int
    rows: tuple[BenchRowPart, ...]


class OriginPart(Part, frozen=True):
    """Weights beside those where the plan was made."""

    processor: Processor | None
    processor_here: Processor
    summary: str


class ForecastPart(Part, frozen=True):
    """Time and memory of a run."""

    pass_seconds: float
    passes: tuple[int, int]
    image_forwards: tuple[int, int]
    least_memory: int
    memory: int
    seconds: Interval


class KeptPart(Counted, frozen=True):
    """A point that a run keeps."""

    chosen: bool
    dominated: bool
    compression: float
    mean_bits: float
    file_bytes: int
    file_bytes_are: str
    phase: str
    trial: int | None
    rejected: str | None
    predicted_kl_nats: float | None
    measured_kl_nats: float | None
    change: float | None
    search: Compared | None
    plan_sha256: str
