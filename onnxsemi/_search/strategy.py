"""What the methods of finding bitwidths have in common, and what is asked of them elsewhere.

Whatever differs between methods is asked of the method: how it is guarded, what is measured for it,
which of the points that it passed through can be written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from onnxsemi._enum_choice import choice
from onnxsemi._errors import SettingsError
from onnxsemi._field_types import check_fields
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import ladder, parse_ladder
from onnxsemi._search.effort import Effort
from onnxsemi._search.guard import Guarantee, Guard
from onnxsemi._search.observer import Watch
from onnxsemi._search.protocols import DeltaLossTable, Recalling, RecallingEvaluator, Scout
from onnxsemi._search.trajectory import Point, Trajectory


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """What every method is told.

    Attributes:
        bits: The ladder, widest first; empty for the method's own: all from 8 to 1 for the
            frontier, which takes 0 bits too, 8, 6, 4 for the paper's.
        coded: Whether these are bits of entropy-coded weights; follows from how they are rounded.
    """

    effort: Annotated[Effort, Option(Panel.SEARCH)] = Effort.MEDIUM
    """Presets of `search_samples`, `rounding_samples`, `delta_loss_samples` and `tries`, as far as
    these are not given. low: all, 256, 128, 0; medium: all, 1,024, 512, 4; high: all, 4,096,
    2,048, 12."""
    bits: Annotated[tuple[int, ...], Option(Panel.SEARCH, read=parse_ladder, advanced=True)] = ()
    """Bitwidths to use: 1 to 8 unless given, 8,6,4 for `method` semilayer. With 0 among them
    (frontier), channels may lose all weights: their output is constant then."""
    max_drop: Annotated[float, Option(Panel.SEARCH, decides=Decides.CHOICE)] = 0.0
    """Percentage points of top-1 on the calibration images that may be lost; without labels, of
    agreement with the float model."""
    guarantee: Annotated[
        Guarantee | None, Option(Panel.SEARCH, advanced=True, decides=Decides.CHOICE)
    ] = None
    """What `max_drop` is asked of. interval: the lower end of the paired 95 % interval of the
    change on the calibration images; point: the change itself. Unless given, the interval within
    `tolerance` (frontier), or the point (semilayer)."""
    coded: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "effort", choice(Effort, self.effort))
        bits = ladder(self.bits, coded=self.coded) if self.bits else ()
        object.__setattr__(self, "bits", bits)
        if self.guarantee is not None:
            object.__setattr__(self, "guarantee", choice(Guarantee, self.guarantee))
        if not 0 <= self.max_drop <= 100:
            raise SettingsError(f"`max_drop`: {self.max_drop} is outside 0 to 100 points")


class Measures(Protocol):
    """The two ways to measure plans; each is made when it is first asked for."""

    @property
    def checker(self) -> Recalling:
        """Plans that are rounded as a whole, each on all images."""

    @property
    def scout(self) -> Scout | None:
        """A quick look at plans; None where that would save nothing."""

    @property
    def evaluator(self) -> RecallingEvaluator:
        """Plans that are rounded to the nearest level, each against the one before it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What a search is given.

    Attributes:
        start: All float32, but for pinned layers.
        free: Names of the layers whose bitwidths are searched, in graph order.
        delta_loss: Δloss of every free channel at every bitwidth; None if layers are not split.
        kl_increase: KL of every free channel quantized alone, likewise.
        has_labels: Whether right answers are known, or those of the float model count as right.
        measures: Measures plans on the calibration images.
        watch: Told of every trial and of what is best; may stop the search.
    """

    start: BitPlan
    free: Sequence[str]
    delta_loss: DeltaLossTable | None
    kl_increase: DeltaLossTable | None
    has_labels: bool
    measures: Measures
    watch: Watch


class Strategy(Protocol):
    """A method of finding bitwidths, with its settings."""

    @property
    def name(self) -> str:
        """What the command line and files call it."""

    @property
    def bits(self) -> tuple[int, ...]:
        """The ladder, widest first."""

    @property
    def splits(self) -> bool:
        """Whether channels of a layer may have different bitwidths: that needs their Δloss."""

    @property
    def independent(self) -> bool:
        """Whether the effects of channels are taken to add up, and plans tested whatever was found.

        Then no products between channels are measured, and no bitwidth exactly because the fast way
        agrees little; and the KL of channels is drawn to what holds for other images.
        """

    @property
    def compensates(self) -> bool:
        """Whether weights are rounded on images, so that others make up for each error."""

    @property
    def passes(self) -> tuple[int, int]:
        """Forward passes over the calibration images that a run takes, from about to about."""

    def check_metric(self) -> None:
        """Refuse to go by a metric instead of right answers.

        Raises:
            SettingsError: If it cannot.
        """

    def guard(self, *, has_labels: bool) -> Guard:
        """What is asked of the plan that is chosen."""

    def guards(self, *, has_labels: bool) -> Sequence[Guard]:
        """What the search itself asks of plans; nothing if it goes by counts of right answers."""

    def search(self, problem: Problem) -> Trajectory:
        """Lower the bitwidths of channels while accuracy holds."""

    def measured_by(self, measures: Measures) -> Recalling:
        """What knows the answers of the plans that a search measured."""

    def holding(self, trajectory: Trajectory) -> list[Point]:
        """Points that hold what was asked and save something, most compressed first."""
