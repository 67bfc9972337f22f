"""How a search is to go for a target: settings that keep to what it takes."""

from collections.abc import Iterable
from dataclasses import replace

from onnxsemi._emit.deployment import DEPLOYMENTS, Target
from onnxsemi._errors import SettingsError
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._search.semilayers import Split
from onnxsemi._search.settings import SearchMethod, SearchSettings


def constrained(search: SearchSettings, target: Target) -> SearchSettings:
    """The search with the target's bitwidths, and one of them a layer if it asks for that.

    Args:
        search: What was asked for; bitwidths that were not given are the target's.
        target: Where the file is to run.

    Raises:
        SettingsError: If other bitwidths, or several a layer, were asked for.
    """
    taken = DEPLOYMENTS[target]
    whole = search.method is SearchMethod.SEMILAYER and search.split is Split.NONE
    if taken.per_layer and search.method is SearchMethod.SEMILAYER and not whole:
        raise SettingsError(
            f"`target` {target} takes one bitwidth a layer, and `method` semilayer splits layers: "
            "give `split` none, too, or leave `method` away"
        )
    bits = search.bits
    if not set(bits) <= set(taken.bits):
        if bits != SearchSettings(method=search.method).bits:
            raise _other_bits("bits", bits, target)
        bits = taken.bits
    per_layer = search.per_layer or (taken.per_layer and not whole)
    return replace(search, bits=bits, per_layer=per_layer)


def check_target(target: Target, scheme: Scheme | None, pinned: Iterable[int]) -> None:
    """Refuse grids and pinned bitwidths that the target does not take.

    Args:
        target: Where the file is to run.
        scheme: The grids that were asked for; None for none.
        pinned: Bitwidths of pins.

    Raises:
        SettingsError: With what the target takes.
    """
    taken = DEPLOYMENTS[target]
    if scheme is not None and taken.scheme not in (None, scheme):
        raise SettingsError(
            f"`scheme` {scheme}: `target` {target} takes {taken.scheme} grids; leave one of them "
            "away"
        )
    if other := set(pinned) - {*taken.bits, FLOAT_BITS}:
        raise _other_bits("pins", other, target)


def _other_bits(name: str, bits: Iterable[int], target: Target) -> SettingsError:
    taken = DEPLOYMENTS[target].bits
    other = next(each for each in bits if each not in taken)
    return SettingsError(
        f"`{name}`: {other} bits, and `target` {target} takes {', '.join(map(str, taken))}; leave "
        "one of them away"
    )
