"""Why channels have their bits: the part ``evidence`` of a plan file. It decides nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from onnxsemi.channels import channel_ranges, parse_ranges
from onnxsemi.errors import PlanError
from onnxsemi.layers import Sign


@dataclass(frozen=True)
class Evidence:
    """What the search knew of channels of a layer at one bitwidth.

    Attributes:
        bits: The bitwidth.
        sign: Sign of Δloss that they share.
        channels: Their indices, ascending.
        delta_loss: Sum of the Δloss of each quantized alone, nats per sample.
        kl: Sum of their KL, likewise: the predicted harm.
        trial: Number of the trial that took them there as a semilayer; None if none did.
    """

    bits: int
    sign: Sign
    channels: tuple[int, ...]
    delta_loss: float
    kl: float
    trial: int | None = None


def evidence_document(evidence: Mapping[str, Iterable[Evidence]]) -> dict[str, Any]:
    """What stands in the file: layer -> bitwidth -> sign of Δloss -> what was known."""
    return {layer: _by_bits_and_sign(known) for layer, known in evidence.items()}


def read_evidence(entry: Any, layers: Mapping[str, int]) -> dict[str, tuple[Evidence, ...]] | None:
    """The same back.

    Args:
        entry: What stands in the file; None if nothing does.
        layers: Layer name -> number of its channels.

    Raises:
        PlanError: If it says something else.
    """
    if entry is None:
        return None
    try:
        return {
            layer: tuple(
                _known(sign, int(bits), known, layers[layer])
                for bits, signs in by_bits.items()
                for sign, known in signs.items()
            )
            for layer, by_bits in entry.items()
        }
    except PlanError as error:
        raise PlanError(f"'evidence': {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PlanError(
            f"'evidence' does not say what was known of the plan's channels ({error!r}); it may be "
            "left away"
        ) from None


def _known(sign: str, bits: int, entry: Mapping[str, Any], count: int) -> Evidence:
    refuse_unknown(entry, ("channels", "delta_loss", "kl", "trial"), "an entry")
    channels = tuple(parse_ranges(str(entry["channels"]), count))
    trial = entry.get("trial")
    return Evidence(
        bits=bits,
        sign=Sign(sign),
        channels=channels,
        delta_loss=float(entry["delta_loss"]),
        kl=float(entry["kl"]),
        trial=None if trial is None else int(trial),
    )


def refuse_unknown(entry: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a key that is not understood: it may have been meant.

    Raises:
        PlanError: With the key.
    """
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise PlanError(f"{where} has a key {unknown[0]!r}, which this version does not know")


def _by_bits_and_sign(known: Iterable[Evidence]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in known:
        found.setdefault(str(entry.bits), {})[entry.sign.value] = {
            "channels": channel_ranges(entry.channels),
            "delta_loss": entry.delta_loss,
            "kl": entry.kl,
            **({} if entry.trial is None else {"trial": entry.trial}),
        }
    return found
