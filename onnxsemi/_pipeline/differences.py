"""``inspect A B``: what differs between two plans or compressed files."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import asdict

from onnxsemi._emit.bitwidths import bits_of
from onnxsemi._emit.stored_weights import FOR_TOOLS, PLAN, WEIGHTS, emitted_properties
from onnxsemi._model.loader import load_proto, named
from onnxsemi._pipeline.sizes import sizes_of
from onnxsemi._plan.bitwidth import FLOAT_BITS, shown, stores
from onnxsemi._plan.channel_numbers import channel_ranges
from onnxsemi._results.results import CompareResult, LayerDifference
from onnxsemi._run.plan_file import PlanFile, read_plan

Stated = Mapping[str, str]
_WEIGHTS = "weights where it was made"


@dataclass(frozen=True)
class _Side:
    """One of the two files.

    Attributes:
        is_plan: Whether it is a plan, else a compressed model.
        bits: Layer -> bitwidth of each channel; None for a layer that is float32 as a whole.
        stated: Everything else that it says, as text.
    """

    is_plan: bool
    bits: Mapping[str, tuple[int, ...] | None]
    stated: Stated


def compare(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> CompareResult:
    """What differs between two files.

    Args:
        first: A plan, or a compressed model.
        second: Likewise; a plan and a model are compared in what both of them say.

    Raises:
        PlanError: If a plan cannot be read.
        ModelError: If a model cannot be read, or onnxsemi did not write it.
    """
    one, other = _side(Path(first)), _side(Path(second))
    names = [*one.stated, *(name for name in other.stated if name not in one.stated)]
    if one.is_plan != other.is_plan:
        names = [name for name in names if name in one.stated and name in other.stated]
    pairs = {name: (one.stated.get(name, "none"), other.stated.get(name, "none")) for name in names}
    return CompareResult(
        first=Path(first),
        second=Path(second),
        settings={name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
        layers=tuple(_differences(one, other)),
    )


def _differences(one: _Side, other: _Side) -> Iterator[LayerDifference]:
    """Layers in the order of the first file, each with what moves, most bits before first."""
    for layer in [*one.bits, *(name for name in other.bits if name not in one.bits)]:
        before, after = _of_layer(one, other, layer), _of_layer(other, one, layer)
        if len(before) != len(after):
            yield LayerDifference(layer, "", _summary(before), _summary(after))
            continue
        moves: dict[tuple[int, int], list[int]] = {}
        for channel, pair in enumerate(zip(before, after, strict=True)):
            if pair[0] != pair[1] and (one.is_plan == other.is_plan or not stores(*pair)):
                moves.setdefault(pair, []).append(channel)
        for (was, now), channels in sorted(moves.items(), reverse=True):
            yield LayerDifference(layer, channel_ranges(channels), str(shown(was)), str(shown(now)))


def _of_layer(side: _Side, other: _Side, layer: str) -> tuple[int, ...]:
    """Bits of a layer's channels, as many as the other side says if this one is float32.

    A model lists layers that are no targets too, which a plan does not: they are float32.
    """
    bits, there = side.bits.get(layer), other.bits.get(layer)
    if bits is not None:
        return bits
    if layer not in side.bits and side.is_plan == other.is_plan:
        return ()
    return () if there is None else (FLOAT_BITS,) * len(there)


def _summary(bits: tuple[int, ...]) -> str:
    return f"{len(bits)} channels" if bits else "not there"


def _side(path: Path) -> _Side:
    if path.suffix == ".json":
        plan = read_plan(path)
        return _Side(True, plan.bits, _stated(plan))  # noqa: FBT003  said by the class
    proto = load_proto(path)
    with named(path):
        bits, sizes = bits_of(proto), sizes_of(path)
    properties = emitted_properties(proto)
    stated = {
        key.removeprefix("onnxsemi."): value
        for key, value in properties.items()
        if key not in (*FOR_TOOLS, PLAN)
    }
    stated |= {
        _WEIGHTS: properties.get(WEIGHTS, "none")[:12],
        "target weights smaller by": f"{sizes.targets:.2%}",
        "file bytes": f"{sizes.bytes_after:,}",
        "content": hashlib.sha256(path.read_bytes()).hexdigest()[:12],
    }
    return _Side(False, bits, stated)  # noqa: FBT003


def _stated(plan: PlanFile) -> Stated:
    stated = {
        "tool": plan.tool,
        "model": plan.model[:12],
        "targets": plan.targets,
        "exclude": ", ".join(plan.exclude) or "none",
        "output": plan.output or "none",
        "scheme": plan.scheme,
        "activations": _digest(plan.activations),
        "evidence": _digest(plan.evidence),
        "processor": "none" if plan.processor is None else str(plan.processor),
        _WEIGHTS: (plan.weights_sha256 or "none")[:12],
    }
    if plan.rounding is not None:
        stated |= {f"rounding {k}": str(v) for k, v in asdict(plan.rounding).items()}
        stated["rounding images"] = _digest(plan.rounding.images)
    return stated


def _digest(value: object) -> str:
    """Something long, short enough to be told apart by."""
    if not value:
        return "none"
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]
