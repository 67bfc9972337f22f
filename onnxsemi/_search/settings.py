"""How a search goes: the method, and the settings of both."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from onnxsemi._enum_choice import choice
from onnxsemi._errors import SettingsError
from onnxsemi._option import Option, Panel
from onnxsemi._search.frontier_search import FrontierSearch, FrontierSettings
from onnxsemi._search.semilayer_search import SemilayerSearch, SemilayerSettings
from onnxsemi._search.semilayers import Split
from onnxsemi._search.strategy import Strategy


class SearchMethod(StrEnum):
    """How bitwidths are found."""

    FRONTIER = "frontier"
    """From a frontier of plans over all bitwidths, by the Fisher table; weights compensated."""
    SEMILAYER = "semilayer"
    """The paper's: semilayer after semilayer, a bitwidth at a time, weights rounded to nearest."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings(SemilayerSettings, FrontierSettings):
    """How the search goes.

    Images that are too few to show as little as the tolerance are held to what they can show, and
    to the KL (:mod:`onnxsemi._search.few_images`).
    """

    method: Annotated[SearchMethod, Option(Panel.SEARCH, advanced=True)] = SearchMethod.FRONTIER
    """frontier: plans over all bitwidths by predicted KL increase, weights rounded so that the
    others make up for each error; semilayer: the paper's, one bitwidth at a time, weights to the
    nearest level."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "method", choice(SearchMethod, self.method))
        object.__setattr__(self, "bits", self.strategy.bits)

    @cached_property
    def strategy(self) -> Strategy:
        """The method, with its settings."""
        if self.method is SearchMethod.SEMILAYER:
            if self.per_layer:
                raise SettingsError("`per_layer`: is for `method` frontier; give `split` none")
            return SemilayerSearch(self)
        if self.split is not Split.SIGN:
            raise SettingsError("`split` none: is for `method` semilayer")
        return FrontierSearch(self)
