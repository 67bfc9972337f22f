"""Results as documents: what ``--json`` prints, and what a run keeps for its report."""

import json
from dataclasses import fields
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from onnxsemi import __about__
from onnxsemi._emit.narrow_types import NarrowTypes
from onnxsemi._head import Head
from onnxsemi._model.float_parts import FloatWeights
from onnxsemi._report.parts import (
    BenchPart,
    BenchRowPart,
    Compared,
    CostPart,
    FindingPart,
    ForecastPart,
    KeptPart,
    KernelsPart,
    OriginPart,
    Part,
    PlanPart,
    PointPart,
    Score,
    SensitivityPart,
    Sizes,
    SkippedPart,
    TrialPart,
    VerdictPart,
)
from onnxsemi._results.check import CheckResult
from onnxsemi._results.results import CompareResult, InspectResult
from onnxsemi._results.verify import VerifyResult
from onnxsemi._run.folder import Setting

SCHEMA = 1
LABELS = "labels"


class Document(Part, frozen=True, kw_only=True, omit_defaults=False):
    """What stands at the head of every document."""

    schema: int = SCHEMA
    tool: str = f"onnxsemi {__about__.VERSION}"


def to_json(document: Document) -> str:
    """The document as it is printed, on one line: whatever cannot be seen by its code."""
    plain = msgspec.to_builtins(document, enc_hook=str, str_keys=True)
    text = json.dumps(plain, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


class BenchDocument(Document, frozen=True):
    """Models side by side."""

    threads: int
    rounds: int
    rows: tuple[BenchRowPart, ...]


class CompressDocument(Document, frozen=True):
    """A finished compression with every decision of its search."""

    output: str
    plan_file: str
    profile: str
    head: Head
    answers_compared_with: str
    sizes: Sizes
    search: Compared
    report: Compared
    verdict: VerdictPart
    asked: FindingPart
    sensitivity: SensitivityPart
    cost: CostPart
    plan: PlanPart
    chosen: PointPart
    baseline: Score
    stop: str
    frontier_redrawn: tuple[str, ...]
    trajectory: tuple[PointPart, ...]
    trials: tuple[TrialPart, ...]
    made_from: dict[str, Setting]
    pinned: dict[str, int]
    run: str | None
    skipped: tuple[SkippedPart, ...]
    left_float: tuple[FloatWeights, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    kernels: KernelsPart | None
    types: NarrowTypes | None
    speed: BenchPart | None

    @property
    def has_labels(self) -> bool:
        """Whether answers were compared with labels, or with the float model's answers."""
        return self.answers_compared_with == LABELS


class RunResult(CompressDocument, frozen=True):
    """The same, and what was given: what a run keeps."""

    command: str
    model: str
    search_data: str
    test_data: str
    channel_parameters: dict[str, int]
    classes: tuple[str, ...] | None


class ApplyDocument(Document, frozen=True):
    """An applied plan."""

    output: str
    profile: str
    answers_compared_with: str | None
    sizes: Sizes
    report: Compared | None
    plan: PlanPart
    plan_edited: bool
    rounded_anew: bool
    same_weights: bool | None
    origin: OriginPart | None
    plan_file: str | None
    kernels: KernelsPart | None
    types: NarrowTypes | None
    verdict: VerdictPart | UnsetType = UNSET


class EvaluateDocument(Document, frozen=True):
    """An evaluation; what needs labels, a metric or a reference is there with them only."""

    head: Head
    images: int
    warnings: tuple[str, ...]
    correct: int | UnsetType = UNSET
    accuracy: float | UnsetType = UNSET
    loss_nats: float | UnsetType | None = UNSET
    metric: str | UnsetType = UNSET
    mean: float | UnsetType | None = UNSET
    comparison: Compared | UnsetType = UNSET


class ParetoDocument(Document, frozen=True):
    """Every point that a run keeps."""

    run: str
    method: str
    profile: str
    answers_compared_with: str
    head: Head
    search_images: int
    float_correct: float | int | None
    chosen_as_written: Compared | None
    points: tuple[KeptPart, ...]
    float_mean: float | UnsetType = UNSET


def _like(result: type, rename: dict[str, str] | None = None, **more: Any) -> type[Document]:
    """A document with the fields of a result.

    Args:
        result: A dataclass, XResult for XDocument.
        rename: Field -> its name in JSON, where that is another.
        more: Fields of another type, or that the result has as a property.
    """
    named = {each.name: each.type for each in fields(result)} | more
    name = result.__name__.replace("Result", "Document")
    made: Any = msgspec.defstruct(
        name, [*named.items()], bases=(Document,), rename=rename, frozen=True
    )
    found: type[Document] = made
    return found


CheckDocument = _like(CheckResult, forecast=ForecastPart)
VerifyDocument = _like(VerifyResult)
CompareDocument = _like(CompareResult, same=bool)
InspectDocument = _like(
    InspectResult, {"shared_bytes": "shared_structure_bytes"}, sizes=Sizes | None
)
