"""The plan file of a compression: bits, and what is needed to give them their codes again."""

from dataclasses import asdict

from msgspec.structs import replace

from onnxsemi import __about__
from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.run_identity import one_processor
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.coded import CodedLayer
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._run.folder import RunFolder
from onnxsemi._run.plan_file import DIGEST, LayerBits, PlanFile, RoundingRecord, layers_of


def plan_file(
    prepared: Prepared, plan: BitPlan, ranges: ActivationRanges | None, *, nearest: bool
) -> PlanFile:
    """The plan with what is needed to apply it.

    Args:
        prepared: Model, images, settings.
        plan: Bits of every target channel.
        ranges: Ranges of the activations, if those are quantized.
        nearest: Whether weights have their nearest levels; else they are rounded on images.
    """
    settings = prepared.settings
    return PlanFile(
        model=prepared.classifier.fingerprint,
        targets=settings.model.targets.value,
        exclude=settings.model.exclude,
        output=settings.model.output,
        scheme=settings.grids.value,
        layers=layers_of(plan.bits),
        activations=ranges,
        rounding=None if nearest else _rounding_record(prepared),
        tool=f"onnxsemi {__about__.VERSION}",
        plan_sha256=plan.sha256,
    )


def rounded_file(
    prepared: Prepared,
    codes: RoundedPlan,
    ranges: ActivationRanges | None,
    run: RunFolder,
    *,
    nearest: bool,
) -> PlanFile:
    """The plan with what came of it: a digest of its weights, and what rounded them."""
    document = plan_file(prepared, codes.plan, ranges, nearest=nearest)
    coded = codes.coded
    layers = {name: _with_levels(each, coded.get(name)) for name, each in document.layers.items()}
    document = replace(document, layers=layers)
    return replace(document, processor=one_processor(run), weights_sha256=codes.sha256)


def _with_levels(planned: LayerBits, coded: CodedLayer | None) -> LayerBits:
    if coded is None:
        return planned
    return replace(planned, levels=coded.levels, coded_bits=round(coded.bits, 3))


def _rounding_record(prepared: Prepared) -> RoundingRecord | None:
    """How the weights are rounded and on which images, to do it again."""
    settings = prepared.settings
    if settings.rounds is None:
        return None
    digests = (digest.hex()[:DIGEST] for digest in prepared.rounding.digests())
    return RoundingRecord(**asdict(settings.rounds), seed=settings.seed, images=" ".join(digests))
