"""How a search goes."""

from dataclasses import dataclass, replace
from enum import StrEnum

from onnxsemi.arguments import check_fields
from onnxsemi.bitwidth import DEFAULT_LADDER, MAX_BITS, ladder
from onnxsemi.choices import choice
from onnxsemi.errors import SettingsError
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

    Attributes:
        method: How bitwidths are found.
        bits: The ladder, widest first; empty for the method's own: all from 8 to 1 for the
            frontier, which takes 0 bits too, 8, 6, 4 for the paper's.
        order: Descending or ascending sensitivity; for the paper's method.
        split: By the sign of Δloss, or not at all; for the paper's method.
        max_drop: Percentage points of top-1 accuracy on the calibration images that the choice may
            lose; of agreement with the float model where there are no labels.
        tolerance: For the frontier: percentage points that the 95 % interval of the change may
            reach below that. Images that are too few to show so little are held to what they can
            show, and to the KL (:mod:`onnxsemi.search.few`).
        guarantee: What ``max_drop`` is asked of; None for the method's own way: the interval within
            the tolerance for the frontier, the point for the paper's.
        tries: Semilayers that the frontier's descent tries to lower.
    """

    method: SearchMethod = SearchMethod.FRONTIER
    bits: tuple[int, ...] = ()
    order: Order = Order.DESCENDING
    split: Split = Split.SIGN
    max_drop: float = 0.0
    tolerance: float = 0.5
    guarantee: Guarantee | None = None
    tries: int = 4

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
