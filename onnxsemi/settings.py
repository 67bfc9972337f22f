"""Everything a user can set about a compression, with its defaults."""

from dataclasses import dataclass, field

from onnxsemi.bitwidth import is_bitwidth
from onnxsemi.choices import choice
from onnxsemi.data.load import DataOptions
from onnxsemi.errors import SettingsError
from onnxsemi.measure.shards import worker_threads
from onnxsemi.model.read import ReadOptions
from onnxsemi.model.targets import matches
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.search.run import SearchSettings


@dataclass(frozen=True)
class Pin:
    """Layers whose bitwidth is given, not searched.

    Attributes:
        pattern: Shell pattern of layer names.
        bits: 2 to 8, or 32 for float32.
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
            raise SettingsError(f"--pin: {text!r} is not PATTERN=BITS, such as 'layer3.*=8'")
        if not is_bitwidth(int(bits)):
            raise SettingsError(f"--pin: {bits} bits; allowed are 2 to 8, or 32 for float32")
        return cls(pattern, int(bits))

    def matches(self, layer: str) -> bool:
        """Whether the pin is about a layer."""
        return matches(layer, self.pattern)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to compress.

    Attributes:
        search: Ladder, order, split, allowed drop.
        model: Which layers and which output to take.
        data: Preprocessing of the images.
        scheme: The quantizer's scheme.
        pins: Layers whose bitwidths are given.
        delta_loss_samples: Images for Δloss, taken from the search images. The exact way costs one
            run of the rest of the model for each channel, bitwidth and image.
        search_samples: Images for KL and accuracy during the search; None for all there are.
        report_fraction: Share of the images kept for the report if no report data are given.
        seed: Seed of every sample that is drawn.
        threads: Shards of images worked on at once; None for every core. Changes no result.
    """

    search: SearchSettings = field(default_factory=SearchSettings)
    model: ReadOptions = field(default_factory=ReadOptions)
    data: DataOptions = field(default_factory=DataOptions)
    scheme: Scheme = Scheme.ASYMMETRIC
    pins: tuple[Pin, ...] = ()
    delta_loss_samples: int = 128
    search_samples: int | None = None
    report_fraction: float = 0.5
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheme", choice(Scheme, self.scheme))
        worker_threads(self.threads)
        for flag, value in (
            ("--delta-loss-samples", self.delta_loss_samples),
            ("--search-samples", self.search_samples),
        ):
            if value is not None and value < 1:
                raise SettingsError(f"{flag}: {value} must be 1 or more")
        if self.seed < 0:
            raise SettingsError(f"--seed: {self.seed} must be 0 or more")
        if not 0 < self.report_fraction < 1:
            raise SettingsError(
                f"--report-fraction: {self.report_fraction} must be between 0 and 1"
            )

    @property
    def worker_threads(self) -> int:
        """Threads to use."""
        return worker_threads(self.threads)
