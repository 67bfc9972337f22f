"""The bit plan as a JSON file that people read, edit and compare (docs/plan.md, plan.schema.json).

    {
     "schema": 2,
     "tool": "onnxsemi 0.1.0",
     "model": "<SHA-256 of the folded model>",
     "targets": "hidden",  "scheme": "symmetric",
     "plan_sha256": "<what the bits below were when the tool wrote them>",
     "activations": {"/layer1/Relu_output_0": [0.0, 2.5]},
     "layers": {
      "/layer1/conv1": {"channels": 16, "bits": {"8": "0-3,7", "4": "4-6,8-14", "32": "15"}}
     }
    }

The types below are the file: it is read into them and written from them, and its JSON schema is
made of them (docs/make_schema.py). What is not known is left away.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from onnxsemi._errors import PlanError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import (
    BITS_TAKEN,
    BITWIDTHS,
    CODED_BITS,
    FLOAT_BITS,
    MAX_BITS,
    MIN_BITS,
    is_coded,
    shown,
)
from onnxsemi._plan.channel_numbers import channel_ranges, check_disjoint, ranges_of
from onnxsemi._plan.layers import Sign, TargetLayer
from onnxsemi._quantizer.settings import Inputs, Ranges, RoundingMethod, RoundingSettings
from onnxsemi._reading import bytes_of, reading
from onnxsemi._runtime.processor import Processor

SCHEMA = 2
DIGEST = 12
"""Hexadecimal digits that an image is told by."""

MOST_CHANNELS = 1_000_000
"""Channels of a plan, at the most: one that says more is refused before they are counted."""

MOST_LAYERS = 100_000
"""Layers of a plan, at the most: as many as a model has nodes."""

_LEVELS = 4  # of objects that are written a line an entry: what is deeper stands on one
_RANGES = r"^\s*[0-9]+(-[0-9]+)?\s*(,\s*[0-9]+(-[0-9]+)?\s*)*$"

_WIDTHS = {str(shown(width)): width for width in BITWIDTHS}

Bits = Annotated[str, Meta(extra_json_schema={"enum": list(_WIDTHS)})]
Channels = Annotated[
    str, Meta(pattern=_RANGES, description="Channel numbers from 0 on, such as 0-3,5.")
]
Count = Annotated[int, Meta(ge=1, le=MOST_CHANNELS)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class LayerBits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A layer's channels by bitwidth; each channel stands once, and 32 means float32.

    Bits with a decimal point are about what an entropy-coded weight takes. Of such a layer the
    levels are said that its codes have, and the bits that a weight takes by their frequencies; both
    decide nothing.
    """

    channels: Count
    bits: dict[Bits, Channels]
    levels: Annotated[int, Meta(ge=1, le=255)] | None = None
    coded_bits: Annotated[float, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        widths = {_WIDTHS[bits] for bits in self.bits}
        if any(map(is_coded, widths)) and any(0 < width <= MAX_BITS for width in widths):
            raise PlanError("bits of entropy-coded weights and whole ones stand in one layer")
        parts = [part for text in self.bits.values() for part in ranges_of(text, self.channels)]
        check_disjoint(parts)
        missing = 0
        for part in sorted(parts, key=lambda part: part.start):
            if part.start > missing:
                break
            missing = part.stop
        if missing < self.channels:
            raise PlanError(f"of its {self.channels} channels, channel {missing} is missing")

    @classmethod
    def of(cls, bits: Iterable[int]) -> "LayerBits":
        """From the bitwidth of each channel, most bits first."""
        each = [int(value) for value in bits]
        ranges = {
            str(shown(value)): channel_ranges(c for c, b in enumerate(each) if b == value)
            for value in sorted(set(each), key=lambda width: -BITS_TAKEN[width])
        }
        return cls(channels=len(each), bits=ranges)

    @property
    def each(self) -> tuple[int, ...]:
        """Bitwidth of each channel."""
        found = [FLOAT_BITS] * self.channels
        for value, text in self.bits.items():
            for part in ranges_of(text, self.channels):
                found[part.start : part.stop] = [_WIDTHS[value]] * len(part)
        return tuple(found)


class ChannelEvidence(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What the search knew of channels that share a bitwidth and a sign of Δloss.

    Sums over the channels, each quantized alone, in nats per sample; and the number of the trial
    that took them there as a semilayer, if one did.
    """

    channels: Channels
    delta_loss: float
    kl: Annotated[float, Meta(ge=0)]
    trial: Annotated[int, Meta(ge=1)] | None = None


class RoundingRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights were rounded, and a digest of each calibration image, in order.

    Empty images stand for any.
    """

    ranges: Ranges = Ranges.OUTPUT
    method: RoundingMethod = RoundingMethod.GPTQ
    inputs: Inputs = Inputs.QUANTIZED
    bias_correction: bool = True
    half_steps: bool = True
    sweeps: Annotated[int, Meta(ge=0)] = 2
    seed: Annotated[int, Meta(ge=0)] = 0
    images: Annotated[str, Meta(pattern="^([0-9a-f]{12}( [0-9a-f]{12})*)?$")] = ""

    @property
    def settings(self) -> RoundingSettings:
        """How they were rounded."""
        return msgspec.convert(self, RoundingSettings, from_attributes=True)

    @property
    def digests(self) -> tuple[str, ...]:
        """Of each image; empty for any images."""
        return tuple(self.images.split())


class PlanFile(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="schema",
    tag=SCHEMA,
):
    """The bitwidth of every channel of every target layer, with what is needed to apply it.

    Attributes:
        tool: Name and version of what wrote it.
        model: SHA-256 of the folded float model that the plan was made for.
        targets: Policy that found its layers.
        exclude: Shell patterns of layers that were left out.
        output: Output that holds the class scores, if the model has several.
        scheme: How a range becomes a grid.
        plan_sha256: What :attr:`BitPlan.sha256` was when the tool wrote it: another one means
            edited by hand.
        processor: Kind of processor that rounded the weights; None if not known, or not one.
        weights_sha256: What :attr:`RoundedPlan.sha256` was there.
        rounding: How weights were rounded on images; None for the nearest level.
        activations: Tensor -> smallest and largest value of its uint8 grid; None if none is
            quantized, and one that is left out stays float32.
        layers: Layer -> its channels by bitwidth.
        evidence: Layer -> bitwidth -> sign of Δloss -> what the search knew. It decides nothing.
    """

    tool: str = ""
    model: str
    targets: Literal["hidden", "conv", "all"]
    exclude: tuple[str, ...] = ()
    output: str | None = None
    scheme: Literal["asymmetric", "symmetric"]
    plan_sha256: Sha256 | None = None
    processor: Processor | None = None
    weights_sha256: Sha256 | None = None
    rounding: RoundingRecord | None = None
    activations: Mapping[str, tuple[float, float]] | None = None
    layers: dict[str, LayerBits]
    evidence: dict[str, dict[Bits, dict[Sign, ChannelEvidence]]] | None = None

    def __post_init__(self) -> None:
        channels = sum(layer.channels for layer in self.layers.values())
        if channels > MOST_CHANNELS:
            raise PlanError(f"{channels:,} channels; a plan has at most {MOST_CHANNELS:,}")
        for name, (low, high) in (self.activations or {}).items():
            if not -math.inf < low <= high < math.inf:
                raise PlanError(f"activation {name!r}: {low:g} to {high:g} is no range of values")
        for layer, by_bits in (self.evidence or {}).items():
            if layer not in self.layers:
                raise PlanError(f"'evidence': layer {layer!r} is none of the plan's")
            _check_bits(by_bits)
            for by_sign in by_bits.values():
                for known in by_sign.values():
                    ranges_of(known.channels, self.layers[layer].channels)

    @property
    def bits(self) -> dict[str, tuple[int, ...]]:
        """Layer -> bitwidth of each channel."""
        return {name: layer.each for name, layer in self.layers.items()}

    def to_json(self) -> str:
        """The file's text: the same plan gives the same text, a line a layer and bitwidth."""
        document = msgspec.to_builtins(self)
        document.get("processor", {}).pop("name", None)  # machines of one kind give the same
        return _text(document, _LEVELS, "") + "\n"

    def weights_of(self, plan: BitPlan) -> str | None:
        """Digest of the weights of its own bits; None for other bits, or if it is not known."""
        return self.weights_sha256 if self.plan_sha256 == plan.sha256 else None

    def edited(self, plan: BitPlan) -> bool:
        """Whether its bits, which ``plan`` has, are others than the tool wrote."""
        return self.plan_sha256 is not None and self.plan_sha256 != plan.sha256

    def with_plan(self, plan: BitPlan, weights_sha256: str | None = None) -> "PlanFile":
        """The same for another plan, of which no more than its weights is known."""
        return msgspec.structs.replace(
            self,
            layers=layers_of(plan.bits),
            plan_sha256=plan.sha256,
            weights_sha256=weights_sha256,
            evidence=None,
        )

    def fit(self, layers: Sequence[TargetLayer]) -> BitPlan:
        """The plan for these target layers.

        Raises:
            PlanError: If a layer is unknown or missing, or has another number of channels.
        """
        known = {layer.name: layer for layer in layers}
        for name, said in self.layers.items():
            if name not in known:
                raise PlanError(f"the plan's layer {name!r} is no target layer of the model")
            if said.channels != known[name].channels:
                raise PlanError(
                    f"layer {name!r} has {known[name].channels} channels, the plan {said.channels}"
                )
        for name in known:
            if name not in self.layers:
                raise PlanError(f"the plan says nothing about target layer {name!r}")
        return BitPlan(
            {name: self.layers[name].each for name in known},
            {name: layer.channel_params for name, layer in known.items()},
        )


def _check_bits(found: Iterable[str]) -> None:
    for bits in found:
        if bits not in _WIDTHS:
            raise PlanError(
                f"{bits} bits; allowed are {MIN_BITS} to {MAX_BITS} or {FLOAT_BITS}, and of "
                f"entropy-coded weights {', '.join(map(str, CODED_BITS))}"
            )


def layers_of(bits: Mapping[str, Iterable[int]]) -> dict[str, LayerBits]:
    """From layer -> bitwidth of each channel."""
    return {name: LayerBits.of(each) for name, each in bits.items()}


def read_plan(path: str | os.PathLike[str]) -> PlanFile:
    """Read a plan file.

    Raises:
        PlanError: If it is no plan; the message names the layer and what is wrong with it.
    """
    file = Path(path)
    try:
        with reading(PlanError, "not a JSON file"):
            return plan_of(bytes_of(file, PlanError).decode("utf-8"))
    except PlanError as error:
        said = str(error)
        raise PlanError(said if said.startswith(str(file)) else f"{file}: {said}") from None


def plan_of(text: str) -> PlanFile:
    """A plan from the text of its file.

    Raises:
        PlanError: If it is no plan, or says something that would be passed over.
        ValueError: If it is no JSON.
        RecursionError: If it is nested too deeply.
    """
    document = json.loads(text, object_pairs_hook=_without_repeats)
    found = document.get("schema") if isinstance(document, dict) else None
    if type(found) is not int or found != SCHEMA:
        raise PlanError(f"schema {found!r} is not supported; this version reads {SCHEMA}")
    layers = document.get("layers")
    if isinstance(layers, dict) and len(layers) > MOST_LAYERS:
        raise PlanError(f"{len(layers):,} layers; a plan has at most {MOST_LAYERS:,}")
    try:
        return msgspec.convert(document, PlanFile)
    except (msgspec.ValidationError, PlanError) as error:
        where = _wrong_layer(layers)
        raise PlanError(f"{where}{error}: what may stand there is said in docs/plan.md") from None


def _wrong_layer(layers: object) -> str:
    """The first layer that cannot be read, which the error does not name; empty if all can."""
    for name, entry in layers.items() if isinstance(layers, dict) else ():
        try:
            msgspec.convert(entry, LayerBits)
        except (msgspec.ValidationError, PlanError):
            return f"layer {name!r}: "
    return ""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once: of two, JSON readers drop the first without a word."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise PlanError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _text(value: object, levels: int, indent: str) -> str:
    """JSON with a line an entry down to some level, and objects below it on one line each."""
    if not levels or not isinstance(value, dict) or not value:
        return json.dumps(value)
    inner = indent + " "
    entries = (f"{inner}{json.dumps(k)}: {_text(v, levels - 1, inner)}" for k, v in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
