"""What the commands give back: typed, immutable, and all that the reports show."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onnxsemi._emit.integer_kernels import Kernels
from onnxsemi._emit.narrow_types import NarrowTypes
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.stored_weights import InspectedLayer
from onnxsemi._errors import OnnxSemiError
from onnxsemi._head import Head
from onnxsemi._model.float_parts import FloatWeights
from onnxsemi._model.targets import Skipped
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.coded import CodedLayer
from onnxsemi._results import wording
from onnxsemi._results.timings import BenchResult
from onnxsemi._run.folder import Setting
from onnxsemi._run.frontier import KeptFrontier, KeptPoint
from onnxsemi._runtime.processor import Origin
from onnxsemi._search.guard import Finding
from onnxsemi._search.trajectory import Point, Trajectory
from onnxsemi._search.verdict import Verdict
from onnxsemi._sensitivity.agreement import Agreement
from onnxsemi._short_form import Brief
from onnxsemi._stats.comparison import Comparison
from onnxsemi._stats.pairing import Pairing

_LEAST_PASS = 1e-6  # seconds: a clock too coarse for a small model says 0


@dataclass(frozen=True)
class Sizes:
    """How much smaller the model became; each figure is the share that was saved, 0 to 1.

    Attributes:
        targets: The paper's ratio: bits of the target weights.
        model: Bytes of all float32 values of the model against the payload of the file.
        file: Bytes of the file.
        bytes_before: Bytes of the float file, external data included.
        bytes_after: Bytes of the written file.
        payload_bytes: Bytes that its values take: codes, scales, zero points, what stays float32.
        gzip_bytes: Bytes of the written file after gzip.
    """

    targets: float
    model: float
    bytes_before: int
    bytes_after: int
    payload_bytes: int
    gzip_bytes: int

    @property
    def overhead(self) -> float:
        """Bytes of the file beyond its payload, as a share of the payload."""
        return self.bytes_after / self.payload_bytes - 1

    @property
    def file(self) -> float:
        """Share of the file's bytes that was saved."""
        return 1 - self.bytes_after / self.bytes_before

    @property
    def text(self) -> str:
        """The file before and after."""
        change = f"{self.bytes_before:,} -> {self.bytes_after:,} bytes"
        return f"{self.file:.2%} smaller ({change})"


@dataclass(frozen=True)
class Cost:
    """What the whole run took, from reading the model to the verified file.

    Attributes:
        seconds: Wall time, of earlier sessions of the run too.
        cpu_seconds: CPU time of all threads, likewise.
        pass_cpu_seconds: CPU time of one float32 forward pass over the calibration images.
        images: Calibration images.
        trials: Trials of the search.
    """

    seconds: float
    cpu_seconds: float
    pass_cpu_seconds: float
    images: int
    trials: int

    @property
    def passes(self) -> float:
        """Cost in forward passes over the calibration images, CPU time against CPU time."""
        return self.cpu_seconds / max(self.pass_cpu_seconds, _LEAST_PASS)

    @property
    def image_forwards(self) -> float:
        """Cost in float32 forward passes of one image: the unit that runs compare in."""
        return self.passes * self.images

    @property
    def text(self) -> str:
        """Cost in words."""
        return wording.forwards(self.passes, self.images)


@dataclass(frozen=True)
class SensitivitySummary:
    """How Δloss and KL were measured, and how far the fast way can be trusted.

    Attributes:
        samples: Images that Δloss and the fast KL were measured on.
        agreement: Fast against exact on a sample, widest bitwidth first; empty if all is exact.
        exact_delta_loss: Bitwidths whose Δloss was measured exactly; all columns otherwise fast.
        exact_kl: Bitwidths whose KL was measured exactly.
        missing: Layer -> why it has no backward pass and was measured exactly, or estimated.
        estimated: Layers whose Δloss and KL are no more than the errors of their outputs, scaled.
        exact_passes: Forward passes over the images that these would take to be measured exactly.
        reliability: For the frontier: layer -> share of what the KL of its channels differ by that
            holds for other images, 0 to 1; so much of it is kept.
    """

    samples: int
    agreement: tuple[Agreement, ...]
    exact_delta_loss: tuple[int, ...]
    exact_kl: tuple[int, ...]
    missing: Mapping[str, str]
    estimated: tuple[str, ...] = ()
    exact_passes: float = 0.0
    reliability: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class CompressResult(Brief):
    """A finished and verified compression.

    Attributes:
        output: The written ONNX file.
        plan_file: The written plan.
        profile: Form of the file.
        plan: Bits of every target channel.
        chosen: The point of the trajectory that was written.
        trajectory: Everything that the search did.
        sizes: How much smaller the model became.
        search: Float against compressed on the calibration images: the search saw these. Without
            labels the float model's answers count as right; with a metric it is that of the means.
        report: Float against compressed on the test images: the search never saw these.
        finding: What was asked of the plan on the calibration images, and what it was judged by:
            more than was asked for, where the images are too few to show that.
        verdict: What may be claimed, by the test images: no choice was made by them.
        next_command: A command to type next: another point of the run that is safer; None if the
            verdict holds, or nothing was kept.
        sensitivity: How Δloss and KL were measured.
        has_labels: Whether answers were compared with labels, or with the float model's answers.
        cost: What the measuring and searching took.
        skipped: Weighted layers that are no targets, with reasons.
        left_float: What stays float32, by layer, largest first; the rest at the end.
        notes: What reading the model changed; what so few images cannot show.
        kernels: How the targets run, if activations are quantized: all accuracy was measured so.
        types: Which layers ONNX's own types of 2 and 4 bits hold; None but for profile native.
        made_from: What decides it: digests of the model and of the images, every setting by its
            flag, versions, and the kind of processor.
        pinned: Layer -> bitwidth that was given, not searched.
        coded: Layer -> what its codes are, of those that are entropy-coded.
        run: Folder that keeps the other points; None if nothing was kept.
        warnings: What is likely to be wrong with the images or their labels.
        speed: The float model and the written file side by side; None if they were not timed.
    """

    output: Path
    plan_file: Path
    profile: Profile
    plan: BitPlan
    chosen: Point
    trajectory: Trajectory
    sizes: Sizes
    search: Pairing
    report: Comparison
    finding: Finding
    verdict: Verdict
    sensitivity: SensitivitySummary
    has_labels: bool
    cost: Cost
    skipped: tuple[Skipped, ...]
    left_float: tuple[FloatWeights, ...]
    notes: tuple[str, ...]
    made_from: Mapping[str, Setting]
    kernels: Kernels | None = None
    types: NarrowTypes | None = None
    pinned: Mapping[str, int] = field(default_factory=dict)
    coded: Mapping[str, CodedLayer] = field(default_factory=dict)
    run: Path | None = None
    next_command: str | None = None
    warnings: tuple[str, ...] = ()
    speed: "BenchResult | None" = None

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """Verdict, file, weights, answers, and what to do next."""
        next_ = f"onnxsemi.load_session({str(self.output)!r}) opens it at full speed"
        return (
            ("verdict", wording.verdict(self.verdict, self.report)),
            ("file", f"{self.output}, {self.sizes.text}"),
            ("weights", f"{self.plan.mean_bits:.2f} bits each, profile {self.profile}"),
            ("answers", wording.agreed(self.report)),
            ("next", self.next_command or next_),
        )


@dataclass(frozen=True, repr=False)
class ApplyResult(Brief):
    """A plan applied and verified.

    Attributes:
        output: The written ONNX file.
        profile: Form of the file.
        plan: Bits of every target channel.
        sizes: How much smaller the model became.
        report: Float against compressed, or None if no data were given.
        has_labels: Whether answers were compared with labels, or with the float model's answers.
        kernels: How the targets run, if activations are quantized.
        types: Which layers ONNX's own types of 2 and 4 bits hold; None but for profile native.
        edited: Whether the plan's bits are others than the tool wrote; as far as it is known.
        anew: Whether the weights were rounded otherwise than the plan says: for profile native on
            whole steps.
        kept: The run that the plan is a point of; None for a plan file.
        point: That point.
        plan_file: The point's plan, written beside the output; None for a plan file.
        verdict: Of the point of a run, what may be claimed by the test images; else None.
        next_command: A command to type next: a safer point of the run; None if the verdict holds.
        origin: Its weights beside those where the plan was made; None if those are not known, or
            the bits are others.
    """

    output: Path
    profile: Profile
    plan: BitPlan
    sizes: Sizes
    report: Comparison | None
    has_labels: bool
    kernels: Kernels | None = None
    types: NarrowTypes | None = None
    edited: bool = False
    anew: bool = False
    kept: KeptFrontier | None = None
    point: KeptPoint | None = None
    plan_file: Path | None = None
    verdict: Verdict | None = None
    next_command: str | None = None
    origin: Origin | None = None

    @property
    def same_weights(self) -> bool | None:
        """Whether the weights are those where the plan was made; None if that is not known."""
        return None if self.origin is None else self.origin.same_weights

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """Verdict, file, weights, answers and origin, as far as they are known."""
        lines = [
            ("verdict", "written and verified"),
            ("file", f"{self.output}, {self.sizes.text}"),
            ("weights", f"{self.plan.mean_bits:.2f} bits each, profile {self.profile}"),
        ]
        if self.report is not None:
            lines.append(("answers", wording.agreed(self.report)))
            if self.verdict is not None:
                lines[0] = ("verdict", wording.verdict(self.verdict, self.report))
        if self.origin is not None:
            lines.append(("origin", wording.origin(self.origin)))
        return tuple(lines)


class LossError(OnnxSemiError):
    """The test images show a loss beyond what was asked for: no file was written.

    Attributes:
        result: Everything that was measured, the verdict first; of a file that is not there.
    """

    def __init__(self, message: str, result: CompressResult | ApplyResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, repr=False)
class EvaluateResult(Brief):
    """How a model does on images, labelled or not, and against a reference model.

    Attributes:
        total: Images, each of them once.
        correct: Images whose top-1 answer is the label, or all of whose labels are right; None
            without labels, or with a metric.
        loss: Mean cross-entropy, nats per sample; None likewise.
        comparison: Reference against model; None without a reference.
        warnings: What is likely to be wrong with the images or their labels.
        metric: Name of the metric; None without one.
        mean: Its mean over the images.
        head: What the model's scores are.
    """

    total: int
    correct: int | None
    loss: float | None
    comparison: Comparison | None
    warnings: tuple[str, ...] = ()
    metric: str | None = None
    mean: float | None = None
    head: Head = Head.SOFTMAX

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """Accuracy with its interval, loss, and how it differs from the reference."""
        seen = "no labels"
        if self.correct is not None:
            seen = f"{self.head.measured} {wording.share_interval(self.correct, self.total)}"
        if self.metric is not None:
            seen = f"mean of {self.metric} {self.mean:.4f}"
        found = self.comparison
        changes = () if found is None else found.changes[:2]
        return (
            ("found", f"{seen} on {self.total:,} images"),
            *((("loss", f"{self.loss:.5f} nats"),) if self.loss is not None else ()),
            *((f"change of {what}", wording.change(paired)) for what, paired in changes),
            *((("answers", wording.agreed(found, "the reference")),) if found is not None else ()),
        )


@dataclass(frozen=True, repr=False)
class InspectResult(Brief):
    """What a file holds.

    Attributes:
        path: The file.
        opset: Version of the standard operator set.
        ir_version: ONNX IR version.
        file_bytes: Size of the file.
        properties: What onnxsemi wrote into the file about it; empty for other files.
        layers: Weighted layers in graph order.
        float_bytes: Bytes of float32 values outside quantized layers; 0 for other files.
        shared_bytes: Bytes of structure that layers share; 0 for other files.
        sizes: How much smaller the file is than what it was made from; None for other files.
        left_float: Of a float model, what would stay float32, largest first; the rest at the end.
        notes: What a user should know of how a float model is read, a sentence each.
    """

    path: Path
    opset: int
    ir_version: int
    file_bytes: int
    properties: dict[str, str]
    layers: tuple[InspectedLayer, ...]
    float_bytes: int
    shared_bytes: int
    sizes: Sizes | None
    left_float: tuple[FloatWeights, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """What the file is, its size, and how many of its layers are quantized."""
        counts = Counter(layer.status for layer in self.layers)
        held = ", ".join(f"{count} {status}" for status, count in counts.most_common(3))
        return (
            ("file", f"{self.path}, {self.file_bytes:,} bytes"),
            ("form", f"opset {self.opset}, IR {self.ir_version}"),
            ("layers", f"{len(self.layers)}: {held}"),
            *((("size", self.sizes.text),) if self.sizes is not None else ()),
        )


@dataclass(frozen=True)
class LayerDifference:
    """Channels of a layer that two files give different bits.

    Attributes:
        layer: Its name.
        channels: Channel ranges; empty if the files differ in the layer as a whole.
        before: Their bitwidth in the first file, or what the layer is there.
        after: The same in the second.
    """

    layer: str
    channels: str
    before: str
    after: str


@dataclass(frozen=True, repr=False)
class CompareResult(Brief):
    """What differs between two plans or compressed files.

    Attributes:
        first: One file.
        second: The other.
        settings: What each says of itself, where that differs.
        layers: Channels whose bits differ.
    """

    first: Path
    second: Path
    settings: dict[str, tuple[str, str]]
    layers: tuple[LayerDifference, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.settings and not self.layers

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """Whether they are the same, and where not."""
        names = tuple(dict.fromkeys(difference.layer for difference in self.layers))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return (
            ("found", "the same" if self.same else "they differ"),
            ("first", str(self.first)),
            ("second", str(self.second)),
            *((("settings", ", ".join(self.settings)),) if self.settings else ()),
            *((("layers", f"{', '.join(names[:3])}{more}"),) if names else ()),
        )
