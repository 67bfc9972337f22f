"""The bit plan as a JSON file that people read, edit and compare.

    {
      "schema": 1,
      "tool": "onnxsemi 0.1.0",
      "model": "<SHA-256 of the folded model>",
      "targets": "hidden",  "exclude": [],  "output": null,  "scheme": "symmetric",
      "activations": {"/layer1/Relu_output_0": [0.0, 2.5]},
      "layers": {
        "/layer1/conv1": {"channels": 16, "bits": {"8": "0-3,7", "4": "4-6,8-14", "32": "15"}}
      }
    }

``rounding`` is there if weights were rounded on images: how, and a digest of each of these images
in their order, so that ``apply`` finds them again and gives the same codes:

      "rounding": {"ranges": "output", "method": "gptq", ..., "seed": 0, "images": "9f0c...
      77ab..."}

Every channel of every target layer stands in exactly one range; 32 means float32. ``activations``
is there if those are quantized: the range of each tensor; one that is left out stays float32.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from onnxsemi.bitwidth import FLOAT_BITS, MAX_BITS, MIN_BITS, is_bitwidth
from onnxsemi.errors import PlanError, SettingsError
from onnxsemi.layers import TargetLayer
from onnxsemi.plan import BitPlan
from onnxsemi.rounding.settings import RoundingSettings

SCHEMA = 1


DIGEST = 12
"""Hexadecimal digits that an image is told by."""


@dataclass(frozen=True)
class RoundingRecord:
    """How weights were rounded.

    Attributes:
        settings: How.
        seed: Of the positions that were drawn.
        images: A digest of each calibration image, in order; empty for any images.
    """

    settings: RoundingSettings
    seed: int
    images: tuple[str, ...]


@dataclass(frozen=True)
class PlanFile:
    """A plan with what is needed to apply it.

    Attributes:
        model: SHA-256 of the folded model that the plan was made for.
        targets: Target policy that found its layers.
        exclude: Patterns of layers that were left out.
        output: Name of the output that holds the class scores, if the model has several.
        scheme: The quantizer's scheme.
        bits: Layer name -> bitwidth of each channel.
        tool: Name and version of what wrote it.
        activations: Tensor -> smallest and largest value of its grid; None if none is quantized.
        rounding: How weights were rounded on images; None for the nearest level.
    """

    model: str
    targets: str
    exclude: tuple[str, ...]
    output: str | None
    scheme: str
    bits: Mapping[str, tuple[int, ...]]
    tool: str
    activations: Mapping[str, tuple[float, float]] | None = None
    rounding: RoundingRecord | None = None

    def to_json(self) -> str:
        """The file's text: the same plan gives the same text."""
        layers = {
            name: {"channels": len(bits), "bits": _ranges_by_bits(bits)}
            for name, bits in self.bits.items()
        }
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "tool": self.tool,
            "model": self.model,
            "targets": self.targets,
            "exclude": list(self.exclude),
            "output": self.output,
            "scheme": self.scheme,
        }
        if self.rounding is not None:
            document["rounding"] = {
                **asdict(self.rounding.settings),
                "seed": self.rounding.seed,
                "images": " ".join(self.rounding.images),
            }
        if self.activations is not None:
            document["activations"] = {n: list(ends) for n, ends in self.activations.items()}
        document["layers"] = layers
        return json.dumps(document, indent=1) + "\n"

    def fit(self, layers: Sequence[TargetLayer]) -> BitPlan:
        """The plan for these target layers.

        Raises:
            PlanError: If a layer is unknown or missing, or has another number of channels.
        """
        known = {layer.name: layer for layer in layers}
        for name, bits in self.bits.items():
            if name not in known:
                raise PlanError(f"the plan's layer {name!r} is no target layer of the model")
            if len(bits) != known[name].channels:
                raise PlanError(
                    f"layer {name!r} has {known[name].channels} channels, the plan {len(bits)}"
                )
        for name in known:
            if name not in self.bits:
                raise PlanError(f"the plan says nothing about target layer {name!r}")
        return BitPlan(
            {name: self.bits[name] for name in known},
            {name: layer.channel_params for name, layer in known.items()},
        )


def read_plan(path: str | os.PathLike[str]) -> PlanFile:
    """Read a plan file.

    Raises:
        PlanError: If it is no plan; the message names the layer and what is wrong with it.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise PlanError(f"{path}: not a JSON file ({error})") from None
    try:
        return _from_document(document)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def channel_ranges(channels: Iterable[int]) -> str:
    """Ascending channel numbers as ranges.

    >>> channel_ranges([0, 1, 2, 3, 5])
    '0-3,5'
    """
    runs = groupby(enumerate(channels), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for _, group in runs if (run := list(group))]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def parse_ranges(text: str, count: int) -> list[int]:
    """Channel numbers from ranges, all below ``count``.

    >>> parse_ranges("0-3, 5", count=6)
    [0, 1, 2, 3, 5]

    Raises:
        PlanError: If the text is no list of ranges, or names a channel that is not there.
    """
    channels: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise PlanError(f"{part!r} is no channel range such as 0-3")
        begin, end = int(first), int(last or first)
        if end < begin:
            raise PlanError(f"{part!r} is no channel range such as 0-3")
        if end >= count:
            raise PlanError(f"channel {max(begin, count)} is none of its {count} channels")
        channels.extend(range(begin, end + 1))
    return channels


def _ranges_by_bits(bits: Sequence[int]) -> dict[str, str]:
    return {
        str(value): channel_ranges(c for c, b in enumerate(bits) if b == value)
        for value in sorted(set(bits), reverse=True)
    }


def _from_document(document: object) -> PlanFile:
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise PlanError(f"schema {found!r} is not supported; this version reads schema {SCHEMA}")
    for key, kind in (("model", str), ("targets", str), ("scheme", str), ("layers", dict)):
        if not isinstance(document.get(key), kind):
            raise PlanError(f"{key!r} is missing or not a {kind.__name__}")
    exclude, output = document.get("exclude", []), document.get("output")
    if not isinstance(exclude, list) or not all(isinstance(text, str) for text in exclude):
        raise PlanError("'exclude' is not a list of patterns")
    if output is not None and not isinstance(output, str):
        raise PlanError("'output' is not the name of an output")
    layers: dict[str, Any] = document["layers"]
    return PlanFile(
        model=document["model"],
        targets=document["targets"],
        exclude=tuple(exclude),
        output=output,
        scheme=document["scheme"],
        bits={name: _layer_bits(name, entry) for name, entry in layers.items()},
        tool=str(document.get("tool", "")),
        activations=_ranges(document.get("activations")),
        rounding=_rounding(document.get("rounding")),
    )


def _rounding(entry: Any) -> RoundingRecord | None:
    if entry is None:
        return None
    try:
        options = dict(entry)
        images = tuple(str(options.pop("images", "")).split())
        seed = int(options.pop("seed", 0))
        return RoundingRecord(RoundingSettings(**options), seed, images)
    except (TypeError, ValueError, SettingsError) as error:
        raise PlanError(f"'rounding' does not say how weights were rounded ({error})") from None


def _ranges(entry: Any) -> dict[str, tuple[float, float]] | None:
    if entry is None:
        return None
    try:
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in entry.items()}
    except (AttributeError, TypeError, ValueError):
        raise PlanError(
            "'activations' does not give each tensor's smallest and largest value"
        ) from None
    for name, (low, high) in ranges.items():
        if not -math.inf < low <= high < math.inf:
            raise PlanError(f"activation {name!r}: {low:g} to {high:g} is no range of values")
    return ranges


def _layer_bits(name: str, entry: Any) -> tuple[int, ...]:
    try:
        count, ranges = int(entry["channels"]), dict(entry["bits"])
        listed = {int(bits): parse_ranges(str(text), count) for bits, text in ranges.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"layer {name!r}: needs 'channels' and 'bits' ({error})") from None
    except PlanError as error:
        raise PlanError(f"layer {name!r}: {error}") from None
    found: dict[int, int] = {}
    for bits, channels in listed.items():
        if not is_bitwidth(bits):
            raise PlanError(
                f"layer {name!r}: {bits} bits; allowed are {MIN_BITS} to {MAX_BITS} or {FLOAT_BITS}"
            )
        for channel in channels:
            if channel in found:
                raise PlanError(f"layer {name!r}: channel {channel} stands twice")
            found[channel] = bits
    if not 0 < len(found) == count:
        missing = next((c for c in range(len(found) + 1) if c not in found), 0)
        raise PlanError(f"layer {name!r}: of its {count} channels, channel {missing} is missing")
    return tuple(found[channel] for channel in range(count))
