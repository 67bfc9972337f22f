"""How a compressed model is written; and the settings of ``apply``."""

from dataclasses import dataclass
from typing import Annotated

from onnxsemi._emit.deployment import DEPLOYMENTS, Deployment, Target
from onnxsemi._emit.profile import Profile
from onnxsemi._enum_choice import choice
from onnxsemi._errors import SettingsError
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._runtime.calibration import Calibration
from onnxsemi._runtime.providers import Provider
from onnxsemi._settings.cluster import ClusterOptions
from onnxsemi._settings.measure import MeasureSettings, check_counts


@dataclass(frozen=True, kw_only=True)
class WriteSettings(MeasureSettings):
    """How a compressed model is written."""

    profile: Annotated[Profile, Option(Panel.FILE, metavar="NAME")] = Profile.QDQ
    """Form of the file. qdq: bit-packed weights behind DequantizeLinear, full speed with
    onnxsemi.load_session; fast: behind plain arithmetic, full speed in any session; dense: as fast,
    entropy-coded, the smallest, slower to load; int8: activations in uint8 too, for integer
    kernels, the fastest; int8-dense: the same, entropy-coded; native: ONNX's own types of 2 and 4
    bits (opset 25 and 21); nodes: one node a semilayer; portable: as fast, without operators on
    bits; tensorrt: weights and activations in int8; fake: float32 weights on the grid, no
    smaller, for importers that take nothing else."""
    target: Annotated[Target | None, Option(Panel.FILE, metavar="NAME")] = None
    """Where the file is to run: the form follows, and the search keeps to what is taken there
    (docs/targets.md). openvino, web, opencv, tract, ncnn: any bitwidths; qnn, mnn, litert, coreai:
    8 or 4 bits for all of a layer, with a file beside the model that says which; tensorrt: 8 bits,
    activations too. tensorrt, qnn, litert and coreai were not tried there."""
    align: Annotated[int, Option(Panel.FILE, metavar="CHANNELS", advanced=True)] = 1
    """Round bitwidths up, so that the channels of each in a layer are a multiple of this: 16 makes
    profile nodes faster (kernels compute channels in blocks)."""
    allow_loss: Annotated[bool, Option(Panel.FILE, decides=Decides.COURSE)] = False
    """Write the file although the test images show a loss beyond what was asked for."""
    calibration: Annotated[Calibration, Option(Panel.INT8, metavar="NAME", advanced=True)] = (
        Calibration.MINMAX
    )
    """Ranges of activations, by ONNX Runtime's calibrators. minmax: all values; entropy: the least
    loss of information; percentile: all but the outermost 0.001 %."""
    calibration_samples: Annotated[int, Option(Panel.INT8, advanced=True)] = 256
    """Images for that, drawn from those that are there."""
    provider: Annotated[
        str, Option(Panel.RUN, metavar="NAME", advanced=True, decides=Decides.KERNELS)
    ] = "cpu"
    """Execution provider of ONNX Runtime for measuring: cpu, cuda, openvino or another that this
    ONNX Runtime has. What is written is verified and judged on the cpu, whatever it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "profile", choice(Profile, self.profile))
        if self.target is not None:
            object.__setattr__(self, "target", choice(Target, self.target))
            self._take_form(self.target)
        object.__setattr__(self, "calibration", choice(Calibration, self.calibration))
        check_counts(self, "align", "calibration_samples")
        object.__setattr__(self, "provider", self.runs_on.flag)

    def _take_form(self, target: Target) -> None:
        """The target's profile, in place of the default."""
        own = DEPLOYMENTS[target].profile
        if self.profile not in (WriteSettings.profile, own):
            raise SettingsError(
                f"`profile` {self.profile}: `target` {target} is written in profile {own}; leave "
                "one of them away"
            )
        if self.align != 1 and DEPLOYMENTS[target].per_layer:
            raise SettingsError(
                f"`align`: `target` {target} takes one bitwidth a layer, there is nothing to round "
                "up; leave it away"
            )
        object.__setattr__(self, "profile", own)

    @property
    def deployment(self) -> Deployment | None:
        """What the target takes; None without one."""
        return None if self.target is None else DEPLOYMENTS[self.target]

    @property
    def runs_on(self) -> Provider:
        """What runs whatever is measured.

        Raises:
            SettingsError: If this ONNX Runtime does not have it.
        """
        return Provider.named(self.provider, self.worker_threads)


@dataclass(frozen=True, kw_only=True)
class ApplySettings(WriteSettings, ClusterOptions):
    """How to write a plan, or a point of a run."""

    at: Annotated[str | None, Option(metavar="POINT")] = None
    """Which point of a run: 85% is that of least KL increase at that compression of the target
    weights (the paper's ratio, not the file's size) or more; -0.1 the smallest measured one whose
    accuracy on the calibration images changes by no less than that many points; plan:DIGEST the
    one whose plan's digest begins so. The chosen one unless given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_cluster()
