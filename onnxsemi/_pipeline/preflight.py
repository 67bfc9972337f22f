"""What is refused or said before anything long begins."""

from dataclasses import replace

from onnxsemi._arrays import Float32Array
from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._emit.model import emit
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import Progress, warn
from onnxsemi._quantizer.rounded_plan import Nearest, rounded


def preflight(prepared: Prepared, progress: Progress) -> Float32Array:
    """Say what the images cannot show, and refuse what could come to nothing.

    Returns:
        float32[N, K], logits of the float model on the test images.

    Raises:
        OnnxSemiError: If the images are too few for the guarantee, if the profile cannot hold what
            the search may come to, or if the model cannot take the test images.
    """
    warn(progress, warnings(prepared))
    prepared.guard.check_images(len(prepared.search))
    check_profile(prepared)
    workload = replace(prepared.judging(prepared.report), progress=progress)
    before = workload.float_logits()
    if workload.judge is not None:  # a metric that cannot take them is found at once, too
        workload.judge(before)
    return before


def warnings(prepared: Prepared) -> tuple[str, ...]:
    """What is to be said first: what the images cannot show, and what may be wrong with them."""
    few, settings = prepared.guard.warning(len(prepared.search)), prepared.settings
    said = [few, *prepared.warnings]
    if settings.codes_rates and not settings.profile.codes_entropy:
        said.append(
            f"`rounding` rate: profile {settings.profile} stores codes in whole bits, in a larger "
            "file: give `profile` dense"
        )
    return tuple(each for each in said if each is not None)


def check_profile(prepared: Prepared) -> None:
    """Refuse a profile that cannot hold what the search may come to, before the search.

    Raises:
        PlanError: With the layer.
    """
    settings, plan = prepared.settings, prepared.start()
    found = (FLOAT_BITS, *settings.search.bits)
    for number, name in enumerate(prepared.free()):
        channels = range(len(plan.bits[name]))
        if not prepared.strategy.splits:
            plan = plan.with_bits(name, channels, found[number % len(found)])
            continue
        for place, bits in enumerate(found):
            plan = plan.with_bits(name, channels[place :: len(found)], bits)
    ranges: ActivationRanges | None = {} if settings.profile.quantizes_activations else None
    codes = rounded(prepared.classifier.layers, plan, Nearest(settings.grids))
    model = emit(prepared.classifier, codes, settings.profile, ranges)
    if settings.deployment is not None and settings.target is not None:
        settings.deployment.check_file(model, settings.target)
