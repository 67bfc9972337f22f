"""Everything a user can set about a compression, with its defaults."""

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum

from onnxsemi.arguments import check_fields
from onnxsemi.bitwidth import is_bitwidth
from onnxsemi.calibration import Calibration
from onnxsemi.choices import choice
from onnxsemi.data.load import DataOptions
from onnxsemi.emit.profile import Profile
from onnxsemi.errors import SettingsError
from onnxsemi.measure.shards import worker_threads
from onnxsemi.model.read import ReadOptions
from onnxsemi.model.targets import matches
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.rounding.settings import RoundingSettings
from onnxsemi.search.few import images_to_show
from onnxsemi.search.settings import SearchMethod, SearchSettings

FEWEST_DEALT = 4
"""Calibration images below which every one is used for everything."""

_SECONDS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Pin:
    """Layers whose bitwidth is given, not searched.

    Attributes:
        pattern: Shell pattern of layer names.
        bits: 1 to 8, or 32 for float32.
    """

    pattern: str
    bits: int

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """Read ``PATTERN=BITS``.

        >>> Pin.parse("layer3.*=8")
        Pin(pattern='layer3.*', bits=8)

        Raises:
            SettingsError: If the text has another form, or no such bitwidth.
        """
        pattern, _, bits = text.rpartition("=")
        if not pattern or not bits.isdecimal():
            raise SettingsError(f"`pins`: {text!r} is not PATTERN=BITS, such as 'layer3.*=8'")
        if not is_bitwidth(int(bits)) or not int(bits):
            raise SettingsError(f"`pins`: {bits} bits; allowed are 1 to 8, or 32 for float32")
        return cls(pattern, int(bits))

    def matches(self, layer: str) -> bool:
        """Whether the pin is about a layer."""
        return matches(layer, self.pattern)


class Method(StrEnum):
    """How Δloss or KL is measured."""

    FAST = "fast"
    """A few backward passes for all channels and bitwidths; a sample is compared with exact."""
    EXACT = "exact"
    """One run of the rest of the model for each channel or semilayer, bitwidth and image."""
    OUTPUT = "output"
    """No backward pass: the change of the layer's output against what the output varies."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run is kept, and how long it may take.

    Attributes:
        folder: Folder of the run; None keeps nothing.
        resume: Go on with the run in the folder, if there is one.
        time_budget: Seconds after which the best so far is taken; None for no limit.
        command: The command line, for the report; empty if there was none.
    """

    folder: str | os.PathLike[str] | None = None
    resume: bool = False
    time_budget: float | None = None
    command: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.resume and self.folder is None:
            raise SettingsError("`resume` needs the folder of the run")
        if self.time_budget is not None and not self.time_budget > 0:
            raise SettingsError(f"`time_budget`: {self.time_budget:g} seconds must be above 0")


def parse_duration(text: str) -> float:
    """Seconds from hours, minutes and seconds.

    >>> parse_duration("1h30m"), parse_duration("90s"), parse_duration("10m")
    (5400.0, 90.0, 600.0)

    Raises:
        SettingsError: If the text has another form.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if not text or not parts:
        raise SettingsError(f"`time_budget`: {text!r} is no duration such as 10m, 90s or 1h30m")
    amounts = zip(parts.groups(), _SECONDS.values(), strict=True)
    return sum(float(amount) * unit for amount, unit in amounts if amount)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to compress.

    Attributes:
        search: Ladder, order, split, allowed drop.
        model: Which layers and which output to take.
        data: Preprocessing of the images.
        scheme: The quantizer's scheme; None for symmetric if the profile is int8, else asymmetric.
        profile: Form of the written file.
        align: Channels of each bitwidth in a layer are rounded up to a multiple, widest excepted.
        calibration: How ranges of activations follow from their values; for profile int8.
        calibration_samples: Images for that, taken from the calibration images.
        rounding: How weights become codes; None for the method's own way: compensated for the
            frontier, to the nearest level for the paper's.
        rounding_samples: Images for that, taken from the calibration images: at most half of them,
            as the others tell what rounding does to images that it has not seen.
        pins: Layers whose bitwidths are given.
        delta_loss: How Δloss is measured.
        kl: How the KL of semilayers is measured.
        min_agreement: Where the fast way agrees less with the exact way on a sample (share of equal
            signs of Δloss, rank correlation of KL), a bitwidth is measured exactly.
        delta_loss_samples: Images for Δloss and the fast KL, taken from the calibration images that
            weights are not rounded on, at most half of them; None for 512, or 128 for exact Δloss.
        search_samples: Images for KL and accuracy during the search; None for all there are.
        report_labels: Table of labels for test data that are a folder of images; ``data.labels``
            is that of the calibration images.
        report_fraction: Share of the images kept for the report if no test data are given.
        seed: Seed of every sample that is drawn.
        threads: Shards of images worked on at once; None for every core. Changes no result.
        max_memory: Bytes that the process may take; less than the model needs is refused. None for
            what it holds and half of what is free. Changes no result.
        allow_loss: Write the file although the test images show a loss beyond what was asked for.
        bench: Time both models once the file is written. Changes no result.
        force: Go on with images that are too few, or that the float model answers no better than by
            guessing, and with a run of another kind of processor; what would be refused is then a
            warning.
        run: Where the run is kept, and how long it may take.
    """

    search: SearchSettings = field(default_factory=SearchSettings)
    model: ReadOptions = field(default_factory=ReadOptions)
    data: DataOptions = field(default_factory=DataOptions)
    scheme: Scheme | None = None
    profile: Profile = Profile.QDQ
    align: int = 1
    calibration: Calibration = Calibration.MINMAX
    calibration_samples: int = 256
    rounding: RoundingSettings | None = None
    rounding_samples: int = 1024
    pins: tuple[Pin, ...] = ()
    delta_loss: Method = Method.FAST
    kl: Method = Method.FAST
    min_agreement: float = 0.7
    delta_loss_samples: int | None = None
    search_samples: int | None = None
    report_labels: str | os.PathLike[str] | None = None
    report_fraction: float = 0.5
    seed: int = 0
    threads: int | None = None
    max_memory: int | None = None
    force: bool = False
    allow_loss: bool = False
    bench: bool = False
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scheme is not None:
            object.__setattr__(self, "scheme", choice(Scheme, self.scheme))
        object.__setattr__(self, "profile", choice(Profile, self.profile))
        object.__setattr__(self, "calibration", choice(Calibration, self.calibration))
        object.__setattr__(self, "delta_loss", choice(Method, self.delta_loss))
        object.__setattr__(self, "kl", choice(Method, self.kl))
        if self.kl is Method.OUTPUT:
            raise SettingsError(
                "`kl` output: the KL follows from `delta_loss` output; leave `kl` away"
            )
        worker_threads(self.threads)
        for flag, value in (
            ("`delta_loss_samples`", self.delta_loss_samples),
            ("`search_samples`", self.search_samples),
            ("`calibration_samples`", self.calibration_samples),
            ("`rounding_samples`", self.rounding_samples),
            ("`align`", self.align),
            ("`max_memory`", self.max_memory),
        ):
            if value is not None and value < 1:
                raise SettingsError(f"{flag}: {value} must be 1 or more")
        if self.profile.quantizes_activations and self.scheme is Scheme.ASYMMETRIC:
            raise SettingsError(
                "`scheme` asymmetric: profile int8 needs symmetric grids, as integer kernels take "
                "no zero points of weights; leave `scheme` away"
            )
        if self.rounding is not None and self.search.method is SearchMethod.SEMILAYER:
            raise SettingsError(
                "`method` semilayer rounds weights from minimum to maximum to the nearest level: "
                "`ranges`, `rounding`, `inputs` and `bias_correction` are for `method` frontier"
            )
        if self.seed < 0:
            raise SettingsError(f"`seed`: {self.seed} must be 0 or more")
        if not 0 <= self.min_agreement <= 1:
            raise SettingsError(f"`min_agreement`: {self.min_agreement} is outside 0 to 1")
        if not 0 < self.report_fraction < 1:
            raise SettingsError(
                f"`report_fraction`: {self.report_fraction} must be between 0 and 1"
            )

    @property
    def grids(self) -> Scheme:
        """The quantizer's scheme, given or not."""
        if self.scheme is not None:
            return self.scheme
        return Scheme.SYMMETRIC if self.profile.quantizes_activations else Scheme.ASYMMETRIC

    def crosses(self, images: int) -> bool:
        """Whether so many calibration images are few: those that weights are rounded on count, too.

        They are answered by plans that are rounded on others (:mod:`onnxsemi.measure.folds`). It
        does not hang on the tolerance asked for: what is measured is good for any.
        """
        few = FEWEST_DEALT <= images < images_to_show(SearchSettings.tolerance)
        return few and self.rounds is not None

    @property
    def rounds(self) -> RoundingSettings | None:
        """How weights are rounded on calibration images; None for the nearest level."""
        if self.search.method is SearchMethod.SEMILAYER:
            return None
        given = self.rounding or RoundingSettings()
        return given.on_whole_steps if self.profile.has_narrow_types else given

    @property
    def delta_loss_images(self) -> int:
        """Images for Δloss."""
        return self.delta_loss_samples or (128 if self.delta_loss is Method.EXACT else 512)

    @property
    def worker_threads(self) -> int:
        """Threads to use."""
        return worker_threads(self.threads)
