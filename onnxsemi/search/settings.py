"""How a search goes."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from onnxsemi.arguments import check_fields
from onnxsemi.bitwidth import DEFAULT_LADDER, MAX_BITS, ladder, parse_ladder
from onnxsemi.choices import choice
from onnxsemi.errors import SettingsError
from onnxsemi.option import Decides, Option, Panel
from onnxsemi.search.guard import Guarantee, Guard
from onnxsemi.search.ranking import Order
from onnxsemi.search.semilayers import Split

FRONTIER_LADDER = tuple(range(MAX_BITS, 0, -1))


class SearchMethod(StrEnum):
    """How bitwidths are found."""

    FRONTIER = "frontier"
    """From a frontier of plans over all bitwidths, by the Fisher table; weights compensated."""
    SEMILAYER = "semilayer"
    """The paper's: semilayer after semilayer, a bitwidth at a time, weights rounded to nearest."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How the search goes.

    Images that are too few to show as little as the tolerance are held to what they can show, and
    to the KL (:mod:`onnxsemi.search.few`).

    Attributes:
        bits: The ladder, widest first; empty for the method's own: all from 8 to 1 for the
            frontier, which takes 0 bits too, 8, 6, 4 for the paper's.
    """

    method: Annotated[SearchMethod, Option(Panel.SEARCH, advanced=True)] = SearchMethod.FRONTIER
    """frontier: plans over all bitwidths by predicted harm, weights rounded so that the others make
    up for each error; semilayer: the paper's, one bitwidth at a time, weights to the nearest
    level."""
    bits: Annotated[tuple[int, ...], Option(Panel.SEARCH, read=parse_ladder, advanced=True)] = ()
    """Bitwidths to use: 1 to 8 unless given, 8,6,4 for `method` semilayer. With 0 among them
    (frontier), channels may lose all weights: their output is constant then."""
    max_drop: Annotated[float, Option(Panel.SEARCH, decides=Decides.CHOICE)] = 0.0
    """Percentage points of top-1 on the calibration images that may be lost; without labels, of
    agreement with the float model."""
    tolerance: Annotated[float, Option(Panel.SEARCH, decides=Decides.CHOICE)] = 0.5
    """Percentage points that the paired 95 % interval of the change on the calibration images may
    reach below `max_drop`: bounds how many answers may change (frontier)."""
    guarantee: Annotated[
        Guarantee | None, Option(Panel.SEARCH, advanced=True, decides=Decides.CHOICE)
    ] = None
    """What `max_drop` is asked of. interval: the lower end of the paired 95 % interval of the
    change on the calibration images; point: the change itself. Unless given, the interval within
    `tolerance` (frontier), or the point (semilayer)."""
    tries: Annotated[int, Option(Panel.SEARCH, advanced=True)] = 4
    """Semilayers that are tried on top of the best plan of the frontier."""
    order: Annotated[Order, Option(Panel.SEARCH, advanced=True)] = Order.DESCENDING
    """Try the most or the least sensitive semilayer first (semilayer)."""
    split: Annotated[Split, Option(Panel.SEARCH, advanced=True)] = Split.SIGN
    """sign: two semilayers a layer by the sign of Δloss; none: whole layers (semilayer)."""

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "method", choice(SearchMethod, self.method))
        own = DEFAULT_LADDER if self.method is SearchMethod.SEMILAYER else FRONTIER_LADDER
        object.__setattr__(self, "bits", ladder(self.bits or own))
        if self.method is SearchMethod.SEMILAYER and 0 in self.bits:
            raise SettingsError("`bits`: 0 bits are for `method` frontier, which corrects biases")
        object.__setattr__(self, "order", choice(Order, self.order))
        object.__setattr__(self, "split", choice(Split, self.split))
        if self.guarantee is not None:
            object.__setattr__(self, "guarantee", choice(Guarantee, self.guarantee))
            if self.tolerance != SearchSettings.tolerance:
                raise SettingsError(
                    f"`tolerance`: has no meaning with `guarantee` {self.guarantee}, which asks "
                    "for `max_drop` as it is; leave one of them away"
                )
        if not 0 <= self.max_drop <= 100:
            raise SettingsError(f"`max_drop`: {self.max_drop} is outside 0 to 100 points")
        if not 0 < self.tolerance <= 100:
            raise SettingsError(f"`tolerance`: {self.tolerance} is outside 0 to 100 points")
        if self.tries < 0:
            raise SettingsError(f"`tries`: {self.tries} must be 0 or more")
        if self.method is SearchMethod.FRONTIER and self.split is Split.NONE:
            raise SettingsError("`split` none: is for `method` semilayer")

    def guard(self, *, has_labels: bool) -> Guard:
        """What is asked of a plan."""
        asked = Guard(max_drop=self.max_drop, has_labels=has_labels)
        if self.guarantee is Guarantee.INTERVAL:
            return replace(asked, tolerance=0.0)
        if self.guarantee is Guarantee.POINT or self.method is SearchMethod.SEMILAYER:
            return asked
        return replace(asked, tolerance=self.tolerance, balanced=not has_labels)

    def balance(self, *, has_labels: bool) -> Guard:
        """What is asked of how many answers change: half of them count as lost.

        A guarantee that was asked for is taken at its word.
        """
        guard = self.guard(has_labels=has_labels)
        return guard if self.guarantee is not None else replace(guard, balanced=True)

    @property
    def allowed_drop(self) -> float:
        """Points of accuracy that a point of the trajectory may lie below the float model.

        Of the frontier there are only points that the guard has judged.
        """
        return 100.0 if self.method is SearchMethod.FRONTIER else self.max_drop
