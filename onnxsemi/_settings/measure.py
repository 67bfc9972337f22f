"""What all that measure have in common; and the settings of ``evaluate`` and ``bench``."""

from dataclasses import dataclass, field
from typing import Annotated

from onnxsemi._data.load import DataOptions
from onnxsemi._errors import SettingsError
from onnxsemi._field_types import check_fields
from onnxsemi._model.reader import OutputName
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._runtime.runner import worker_threads
from onnxsemi._settings.cluster import ClusterOptions

Force = Annotated[
    bool,
    Option(
        help="Go on with images that are too few, or that the float model answers no better than "
        "by guessing, and with a run that began on another kind of processor, and put a run in the "
        "place of a finished one of another model: what is refused otherwise is a warning then.",
        panel=Panel.IMAGES,
        decides=Decides.COURSE,
    ),
]


def check_counts(settings: object, *names: str) -> None:
    """Refuse fields below 1; those that are None are left.

    Raises:
        SettingsError: With the first.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise SettingsError(f"`{name}`: {value} must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """What all that measure have in common.

    Attributes:
        data: Preprocessing of the images.
    """

    data: DataOptions = field(default_factory=DataOptions)
    threads: Annotated[int | None, Option(Panel.RUN, advanced=True, decides=Decides.NOTHING)] = None
    """Shards of images worked on at once; every core by default. Changes no result."""

    def __post_init__(self) -> None:
        check_fields(self)
        worker_threads(self.threads)

    @property
    def worker_threads(self) -> int:
        """Threads to use."""
        return worker_threads(self.threads)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(MeasureSettings, ClusterOptions):
    """How to evaluate."""

    output: OutputName = None
    force: Force = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_cluster()


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What to time.

    Attributes:
        threads: Threads of a session; None for every core.
        load_rounds: Times that loading is measured, which takes a process each; None for as many.
    """

    batches: Annotated[tuple[int, ...], Option(flags=("--batch",), repeated=True)] = (1, 32)
    """Images in a run; a model whose batch is fixed runs with that instead."""
    threads: Annotated[int | None, Option()] = 1
    """Threads of a session."""
    rounds: Annotated[int, Option()] = 15
    """Times that everything is measured."""
    load_rounds: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        worker_threads(self.threads)
        check_counts(self, "rounds", "load_rounds")
        if not self.batches or min(self.batches) < 1:
            raise SettingsError(f"`batches`: {self.batches} must be 1 or more")
