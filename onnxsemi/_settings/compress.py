"""The settings of ``compress``."""

import os
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated

from onnxsemi._enum_choice import choice
from onnxsemi._errors import SettingsError
from onnxsemi._field_types import check_argument
from onnxsemi._model.reader import ReadOptions
from onnxsemi._model.targets import matches
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._plan.bitwidth import EVERY_BITWIDTH, FLOAT_BITS
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.settings import RoundingMethod, RoundingSettings
from onnxsemi._runtime.memory import parse_memory
from onnxsemi._search.few_images import images_to_show
from onnxsemi._search.settings import SearchSettings
from onnxsemi._settings.deployment import check_target, constrained
from onnxsemi._settings.measure import Force, check_counts
from onnxsemi._settings.run import RunOptions
from onnxsemi._settings.write import WriteSettings

FEWEST_DEALT = 4
"""Calibration images below which every one is used for everything."""


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
        if int(bits) not in (*EVERY_BITWIDTH, FLOAT_BITS):
            raise SettingsError(f"`pins`: {bits} bits; allowed are 1 to 8, or 32 for float32")
        return cls(pattern, int(bits))

    @classmethod
    def of(cls, given: "Pin | str") -> "Pin":
        """A pin, or what :meth:`parse` reads.

        Raises:
            TypeError: If it is neither.
        """
        check_argument("a pin", given, Pin, str)
        return cls.parse(given) if isinstance(given, str) else given

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        return f"{self.pattern}={self.bits}"

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
class Settings(WriteSettings):
    """How to compress.

    Attributes:
        search: How bitwidths are found.
        model: Which layers and which output to take.
        rounding: How weights become codes; None for the method's own way: compensated for the
            frontier, to the nearest level for the paper's.
        max_memory: Bytes that the process may take; less than the model needs is refused. None for
            what it holds and half of what is free. Changes no result.
        run: Where the run is kept, and how long it may take.
    """

    search: SearchSettings = field(default_factory=SearchSettings)
    scheme: Annotated[Scheme | None, Option(Panel.SEARCH, advanced=True)] = None
    """asymmetric: minimum to maximum, the paper's, and the default; symmetric: centred on zero,
    which profile int8 needs and takes."""
    delta_loss: Annotated[Method, Option(Panel.SEARCH, advanced=True)] = Method.FAST
    """fast: a few backward passes for all channels, a sample of them checked; exact: one run of the
    rest of the model for each channel, bitwidth and image; output: how far a layer's output changes
    against how far it varies, which has no sign."""
    kl: Annotated[Method, Option(Panel.SEARCH, advanced=True)] = Method.FAST
    """fast or exact, for the KL of semilayers."""
    min_agreement: Annotated[float, Option(Panel.SEARCH, advanced=True)] = 0.7
    """0 to 1: a bitwidth at which fast and exact agree less than this on the sample (equal signs of
    Δloss; rank correlation of KL) is measured exactly."""
    delta_loss_samples: Annotated[int | None, Option(Panel.SEARCH, advanced=True)] = None
    """Images for Δloss and the fast KL, others than are rounded on, at most half of them; 512 (see
    `effort`), at most 128 if exact."""
    search_samples: Annotated[
        int | None, Option(Panel.SEARCH, advanced=True, decides=Decides.IMAGES)
    ] = None
    """Images that the search measures plans on; all by default (see `effort`)."""
    seed: Annotated[int, Option(Panel.SEARCH, advanced=True)] = 0
    """Seed of every sample that is drawn."""
    rounding: RoundingSettings | None = None
    rounding_samples: Annotated[int | None, Option(Panel.ROUNDING, advanced=True)] = None
    """Calibration images that weights are rounded on, without their labels; at most half, as the
    others tell what rounding does to images that it has not seen; 1,024 (see `effort`)."""
    model: ReadOptions = field(default_factory=ReadOptions)
    pins: Annotated[
        tuple[Pin, ...],
        Option(
            Panel.LAYERS,
            flags=("--pin",),
            metavar="PATTERN=BITS",
            read=Pin.parse,
            repeated=True,
            advanced=True,
        ),
    ] = ()
    """Give layers a bitwidth instead of searching it, such as 'layer3.*=8'."""
    test_fraction: Annotated[
        float,
        Option(
            Panel.IMAGES,
            flags=("--test-fraction",),
            older=("--report-fraction",),
            advanced=True,
            decides=Decides.IMAGES,
        ),
    ] = 0.5
    """Share of the calibration data that is kept for the test without `test_data`, 0 to 1."""
    test_labels: Annotated[
        str | os.PathLike[str] | None,
        Option(
            Panel.IMAGES,
            flags=("--test-labels",),
            older=("--report-labels",),
            metavar="FILE",
            advanced=True,
            decides=Decides.IMAGES,
        ),
    ] = None
    """The same as `labels`, for `test_data`."""
    force: Force = False
    run: RunOptions = field(default_factory=RunOptions)
    max_memory: Annotated[
        int | None, Option(Panel.RUN, metavar="SIZE", read=parse_memory, decides=Decides.NOTHING)
    ] = None
    """Memory to keep within, such as 2GB, for any number of images; by default half of what is
    free. Changes no result."""
    bench: Annotated[bool, Option(Panel.RUN, decides=Decides.NOTHING)] = False
    """Time both models once the file is written: one image at a time on one thread, in a default
    session and as load_session opens them. Changes no result; 'bench' times more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheme is not None:
            object.__setattr__(self, "scheme", choice(Scheme, self.scheme))
        object.__setattr__(self, "delta_loss", choice(Method, self.delta_loss))
        object.__setattr__(self, "kl", choice(Method, self.kl))
        object.__setattr__(self, "pins", tuple(map(Pin.of, self.pins)))
        if self.kl is Method.OUTPUT:
            raise SettingsError(
                "`kl` output: the KL follows from `delta_loss` output; leave `kl` away"
            )
        if self.target is not None and self.codes_rates:
            raise SettingsError(
                "`rounding` rate: for `target` weights are stored in whole bits; leave one away"
            )
        if self.target is not None:
            check_target(self.target, self.scheme, (pin.bits for pin in self.pins))
            object.__setattr__(self, "search", constrained(self.search, self.target))
        check_counts(self, "delta_loss_samples", "search_samples", "rounding_samples", "max_memory")
        if self.profile.quantizes_activations and self.scheme is Scheme.ASYMMETRIC:
            raise SettingsError(
                f"`scheme` asymmetric: profile {self.profile} needs symmetric grids, as integer "
                "kernels take no zero points of weights; leave `scheme` away"
            )
        if self.codes_rates and self.scheme is Scheme.ASYMMETRIC:
            raise SettingsError(
                "`scheme` asymmetric: `rounding` rate needs symmetric grids, as zero is the middle "
                "of its levels; leave `scheme` away"
            )
        if self.rounding is not None and not self.search.strategy.compensates:
            raise SettingsError(
                "`method` semilayer rounds weights from minimum to maximum to the nearest level: "
                "`ranges`, `rounding`, `inputs` and `bias_correction` are for `method` frontier"
            )
        if self.search.coded != self.codes_rates:
            bits = self.search.bits if self.codes_rates else ()
            search = replace(self.search, bits=bits, coded=self.codes_rates)
            object.__setattr__(self, "search", search)
        if self.seed < 0:
            raise SettingsError(f"`seed`: {self.seed} must be 0 or more")
        if not 0 <= self.min_agreement <= 1:
            raise SettingsError(f"`min_agreement`: {self.min_agreement} is outside 0 to 1")
        if not 0 < self.test_fraction < 1:
            raise SettingsError(f"`test_fraction`: {self.test_fraction} must be between 0 and 1")

    @property
    def grids(self) -> Scheme:
        """The quantizer's scheme, given or not."""
        if self.scheme is not None:
            return self.scheme
        asked = self.deployment.scheme if self.deployment else None
        if asked is not None:
            return asked
        centred = self.profile.quantizes_activations or self.codes_rates
        return Scheme.SYMMETRIC if centred else Scheme.ASYMMETRIC

    @property
    def codes_rates(self) -> bool:
        """Whether weights are rounded for what they take entropy-coded."""
        return self.rounding is not None and self.rounding.method is RoundingMethod.RATE

    def crosses(self, images: int) -> bool:
        """Whether so many calibration images are few: those that weights are rounded on count, too.

        They are answered by plans that are rounded on others (:mod:`onnxsemi._evaluation.folds`).
        It does not hang on the tolerance asked for: what is measured is good for any. Where weights
        are rounded on a quarter of them or less, most images are others as it is.
        """
        few = FEWEST_DEALT <= images < images_to_show(SearchSettings.tolerance)
        many_rounded = 4 * min(self.rounding_images, images // 2) > images
        return few and many_rounded and self.rounds is not None

    @property
    def rounds(self) -> RoundingSettings | None:
        """How weights are rounded on calibration images; None for the nearest level."""
        if not self.search.strategy.compensates:
            return None
        given = self.rounding or RoundingSettings()
        asked = self.deployment is not None and self.deployment.whole_steps
        return given.on_whole_steps if asked or self.profile.has_narrow_types else given

    @property
    def delta_loss_images(self) -> int:
        """Images for Δloss."""
        most = 128 if self.delta_loss is Method.EXACT else None
        preset = self.search.effort.options.delta_loss_samples
        return self.delta_loss_samples or min(preset, most or preset)

    @property
    def rounding_images(self) -> int:
        """Images that weights are rounded on."""
        return self.rounding_samples or self.search.effort.options.rounding_samples

    @property
    def search_images(self) -> int | None:
        """Images that plans are measured on; None for all."""
        return self.search_samples or self.search.effort.options.search_samples
