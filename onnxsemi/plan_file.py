"""The bit plan as a JSON file that people read, edit and compare (docs/plan.md, plan.schema.json).

    {
     "schema": 2,
     "tool": "onnxsemi 0.1.0",
     "model": "<SHA-256 of the folded model>",
     "targets": "hidden",  "exclude": [],  "output": null,  "scheme": "symmetric",
     "plan_sha256": "<what the bits below were when the tool wrote them>",
     "activations": {"/layer1/Relu_output_0": [0.0, 2.5]},
     "layers": {
      "/layer1/conv1": {"channels": 16, "bits": {"8": "0-3,7", "4": "4-6,8-14", "32": "15"}}
     }
    }

``rounding`` is there if weights were rounded on images: how, and a digest of each of these images
in their order, so that ``apply`` finds them again and gives the same codes:

      "rounding": {"ranges": "output", "method": "gptq", ..., "seed": 0, "images": "9f0c...
      77ab..."}

``evidence`` says why: for the channels of a layer at each bitwidth and sign of Δloss, what the
search knew of them. It decides nothing:

      "evidence": {"/layer1/conv1": {"4": {"negative":
        {"channels": "4-6", "delta_loss": -2.1e-05, "kl": 1.3e-05, "trial": 3}}}}

``weights_sha256`` and ``processor`` say what came of it where it was made: a digest of the rounded
weights, the same in every profile, and the kind of processor that rounded them. So ``apply`` can
tell whether it gives the very weights:

      "processor": {"features": ["x86_64", "AVX", ...], "libraries": ["onnxruntime 1.32.0", ...]},
      "weights_sha256": "<digest of codes, grids, float32 channels and biases>"

Every channel of every target layer stands in exactly one range; 32 means float32. ``activations``
is there if those are quantized: the range of each tensor; one that is left out stays float32.
Schema 1 is the same without ``plan_sha256`` and what was added with it, and is read too.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnxsemi.bitwidth import FLOAT_BITS, MAX_BITS, MIN_BITS, is_bitwidth
from onnxsemi.channels import channel_ranges, parse_ranges
from onnxsemi.errors import PlanError, SettingsError
from onnxsemi.layers import TargetLayer
from onnxsemi.plan import BitPlan
from onnxsemi.plan_evidence import Evidence, evidence_document, read_evidence, refuse_unknown
from onnxsemi.processor import Processor
from onnxsemi.rounding.settings import RoundingSettings

SCHEMA = 2
_KEYS = {
    *("schema", "tool", "model", "targets", "exclude", "output", "scheme"),
    *("rounding", "activations", "layers"),
}
_NEW_KEYS = {"plan_sha256", "evidence", "processor", "weights_sha256"}
_LEVELS = 4  # of objects that are written a line an entry: what is deeper stands on one


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
        plan_sha256: What :attr:`BitPlan.sha256` was when the tool wrote it; None if not known.
        evidence: Layer name -> what the search knew of its channels; None if it is left out.
        processor: Kind of processor that rounded the weights; None if not known, or not one.
        weights_sha256: What :attr:`RoundedPlan.sha256` was there; None if not known.
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
    plan_sha256: str | None = None
    evidence: Mapping[str, tuple[Evidence, ...]] | None = None
    processor: Processor | None = None
    weights_sha256: str | None = None

    def to_document(self) -> dict[str, Any]:
        """What stands in the file."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "tool": self.tool,
            "model": self.model,
            "targets": self.targets,
            "exclude": list(self.exclude),
            "output": self.output,
            "scheme": self.scheme,
        }
        if self.plan_sha256 is not None:
            document["plan_sha256"] = self.plan_sha256
        if self.processor is not None:
            document["processor"] = self.processor.document()
        if self.weights_sha256 is not None:
            document["weights_sha256"] = self.weights_sha256
        if self.rounding is not None:
            document["rounding"] = {
                **asdict(self.rounding.settings),
                "seed": self.rounding.seed,
                "images": " ".join(self.rounding.images),
            }
        if self.activations is not None:
            document["activations"] = {n: list(ends) for n, ends in self.activations.items()}
        document["layers"] = {
            name: {"channels": len(bits), "bits": _ranges_by_bits(bits)}
            for name, bits in self.bits.items()
        }
        if self.evidence is not None:
            document["evidence"] = evidence_document(self.evidence)
        return document

    def to_json(self) -> str:
        """The file's text: the same plan gives the same text, a line a layer and bitwidth."""
        return _text(self.to_document(), _LEVELS, "") + "\n"

    def weights_of(self, plan: BitPlan) -> str | None:
        """Digest of the weights of its own bits; None for other bits, or if it is not known."""
        return self.weights_sha256 if self.plan_sha256 == plan.sha256 else None

    def edited(self, plan: BitPlan) -> bool:
        """Whether its bits, which ``plan`` has, are others than the tool wrote."""
        return self.plan_sha256 is not None and self.plan_sha256 != plan.sha256

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
        document = json.loads(
            Path(path).read_text(encoding="utf-8"), object_pairs_hook=_without_repeats
        )
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise PlanError(f"{path}: not a JSON file ({error})") from None
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
    try:
        return plan_of_document(document)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def _ranges_by_bits(bits: Sequence[int]) -> dict[str, str]:
    return {
        str(value): channel_ranges(c for c, b in enumerate(bits) if b == value)
        for value in sorted(set(bits), reverse=True)
    }


def plan_of_document(document: object) -> PlanFile:
    """A plan from what stands in its file.

    Raises:
        PlanError: If it is no plan, or says something that would be passed over.
    """
    found = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(document, dict) or type(found) is not int or not 1 <= found <= SCHEMA:
        raise PlanError(
            f"schema {found!r} is not supported; this version reads schema 1 to {SCHEMA}"
        )
    refuse_unknown(document, _KEYS | _NEW_KEYS if found > 1 else _KEYS, "the plan")
    for key, kind in (("model", str), ("targets", str), ("scheme", str), ("layers", dict)):
        if not isinstance(document.get(key), kind):
            raise PlanError(f"{key!r} is missing or not a {kind.__name__}")
    exclude, output = document.get("exclude", []), document.get("output")
    if not isinstance(exclude, list) or not all(isinstance(text, str) for text in exclude):
        raise PlanError("'exclude' is not a list of patterns")
    if output is not None and not isinstance(output, str):
        raise PlanError("'output' is not the name of an output")
    layers: dict[str, Any] = document["layers"]
    bits = {name: _layer_bits(name, entry) for name, entry in layers.items()}
    channels = {name: len(values) for name, values in bits.items()}
    return PlanFile(
        model=document["model"],
        targets=document["targets"],
        exclude=tuple(exclude),
        output=output,
        scheme=document["scheme"],
        bits=bits,
        tool=str(document.get("tool", "")),
        activations=_ranges(document.get("activations")),
        rounding=_rounding(document.get("rounding")),
        plan_sha256=_sha256(document, "plan_sha256"),
        evidence=read_evidence(document.get("evidence"), channels),
        processor=_processor(document.get("processor")),
        weights_sha256=_sha256(document, "weights_sha256"),
    )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once: of two, JSON readers drop the first without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise PlanError(f"the key {repeated!r} stands twice")
    return found


def _text(value: Any, levels: int, indent: str) -> str:
    """JSON with a line an entry down to some level, and objects below it on one line each."""
    if not levels or not isinstance(value, dict) or not value:
        return json.dumps(value)
    inner = indent + " "
    entries = (f"{inner}{json.dumps(k)}: {_text(v, levels - 1, inner)}" for k, v in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{indent}}}"


def _sha256(document: dict[str, Any], key: str) -> str | None:
    entry = document.get(key)
    if entry is None:
        return None
    if not isinstance(entry, str) or len(entry) != 64 or set(entry) - set("0123456789abcdef"):
        raise PlanError(f"{key!r} is {entry!r}, no SHA-256; leave it away if it is not known")
    return entry


def _processor(entry: Any) -> Processor | None:
    try:
        return None if entry is None else Processor.of_document(entry)
    except ValueError as error:
        raise PlanError(f"'processor': {error}; leave it away if it is not known") from None


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
    if isinstance(entry, dict):
        refuse_unknown(entry, ("channels", "bits"), f"layer {name!r}")
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
