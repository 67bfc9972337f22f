"""What is said of two models on the same images: one wording for terminal, JSON and pages.

What is measured without labels is called agreement, and nothing else.
"""

from onnxsemi._runtime.processor import Origin
from onnxsemi._search.verdict import Verdict
from onnxsemi._stats.comparison import Comparison, exact_interval
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import Pairing

FLOAT_MODEL = "the float model"
_LEAST_P = 0.001


def sentence(words: str) -> str:
    """Words as a sentence.

    >>> sentence("holds")
    'Holds.'
    """
    return f"{words[0].upper()}{words[1:]}."


def forwards(passes: float | tuple[int, int], images: int) -> str:
    """What is done in forward passes of images; or from about to about.

    >>> forwards(77.2, 4000)
    '77 passes over 4,000 calibration images, 309 thousand image-forwards'
    >>> forwards((50, 115), 60)
    '50 to 115 passes over 60 calibration images, 3.0 to 6.9 thousand image-forwards'
    """
    counts = passes if isinstance(passes, tuple) else (passes,)
    thousands = [count * images / 1000 for count in counts]
    digits = 0 if thousands[0] >= 10 else 1
    whole = " to ".join(f"{count:,.0f}" for count in counts)
    singly = " to ".join(f"{count:,.{digits}f}" for count in thousands)
    return f"{whole} passes over {images:,} calibration images, {singly} thousand image-forwards"


def share(count: float, total: int) -> str:
    """A share of the images.

    >>> share(3807, 4000)
    '95.17%'
    """
    return f"{count / total:.2%}"


def share_interval(count: int, total: int) -> str:
    """A share with its exact 95 % interval, in percent.

    >>> share_interval(3968, 4000)
    '99.20% [98.87, 99.45]'
    """
    low, high = (100 * end for end in exact_interval(count, total))
    return f"{share(count, total)} [{low:.2f}, {high:.2f}]"


def same(paired: Pairing) -> str:
    """The share of answers that did not change, likewise.

    >>> same(Paired(total=4000, before=4000, broken=32, fixed=0))
    '99.20% [98.87, 99.45]'
    """
    return share_interval(paired.total - paired.broken - paired.fixed, paired.total)


def change(paired: Pairing) -> str:
    """The change in points with its 95 % interval, for a cell of a table.

    >>> change(Paired(total=4000, before=3807, broken=17, fixed=15))
    '-0.05 [-0.34, +0.24]'
    """
    low, high = (100 * end for end in paired.interval)
    return f"{100 * paired.change:+.2f} [{low:+.2f}, {high:+.2f}]"


def p_value(paired: Paired) -> str:
    """McNemar's p-value.

    >>> p_value(Paired(total=100, before=90, broken=20, fixed=0))
    '< 0.001'
    """
    p = paired.p_value
    return f"{p:.2g}" if p >= _LEAST_P else f"< {_LEAST_P}"


def changed(what: str, paired: Pairing) -> str:
    """A change with everything that says how sure it is.

    >>> changed("top-1", Paired(total=4000, before=3807, broken=17, fixed=15))
    'change of top-1: -0.05 points, 95 % interval [-0.34, +0.24]; 17 broken, 15 fixed of 4,000; \
McNemar p = 0.86'
    """
    points, interval = change(paired).split(" ", 1)
    found = f"change of {what}: {points} points, 95 % interval {interval}"
    if not isinstance(paired, Paired):
        return (
            f"{found}; lower on {paired.broken:,}, higher on {paired.fixed:,} of {paired.total:,}"
        )
    p = p_value(paired)
    return f"{found}; {paired.seen}; McNemar p {p if p.startswith('<') else f'= {p}'}"


def agreed(comparison: Comparison, reference: str = FLOAT_MODEL) -> str:
    """How far two models agree.

    >>> agreed(Comparison(images=4000, same=3968, kl=0.00391))
    'same answer as the float model on 3,968 of 4,000 images: 99.20%, 95 % interval \
[98.87, 99.45]; mean KL 0.00391 nats'
    """
    same, images = comparison.same, comparison.images
    percent, interval = share_interval(same, images).split(" ", 1)
    return (
        f"{comparison.head.same} {reference} on {same:,} of {images:,} images: {percent}, "
        f"95 % interval {interval}; mean KL {comparison.kl:.3g} nats"
    )


def summary(comparison: Comparison, reference: str = FLOAT_MODEL) -> tuple[str, ...]:
    """Everything that is said of a comparison, a sentence each."""
    changes = (changed(what, paired) for what, paired in comparison.changes)
    return (*changes, agreed(comparison, reference))


def verdict(claim: Verdict, comparison: Comparison) -> str:
    """What may be claimed, in one sentence.

    >>> from onnxsemi._search.verdict import Outcome
    >>> claim = Verdict(Outcome.HOLDS, "cannot lie below -0.5 points", 0.5, (-0.0034, 0.0024), None)
    >>> verdict(claim, Comparison(4000, 3968, 0.0039, Paired(4000, 3807, broken=17, fixed=15)))
    'holds: top-1 95.17% -> 95.12% on 4,000 test images; the change, -0.05 points \
[-0.34, +0.24], cannot lie below -0.5 points'

    Args:
        claim: What may be claimed.
        comparison: Float against compressed, which it was judged by.
    """
    images = f"{comparison.images:,} test images"
    again = f"; look {claim.looks} at these images" if claim.looks > 1 else ""
    if not comparison.labelled:
        agreement = share(comparison.same, comparison.images)
        seen, points = f"{comparison.head.agreed} on {agreement} of {images}", ""
    else:
        what, paired = comparison.changes[0]
        before, after = paired.levels
        low, high = (100 * end for end in claim.interval)
        seen = f"{what} {before} -> {after} on {images}"
        points = f", {100 * paired.change:+.2f} points [{low:+.2f}, {high:+.2f}],"
    return f"{claim.outcome}: {seen}; the change{points} {claim.reason}{again}"


def needed(claim: Verdict, comparison: Comparison) -> str | None:
    """How many images would settle it; None if it is settled, or no number would.

    >>> from onnxsemi._search.verdict import Outcome
    >>> claim = Verdict(Outcome.UNPROVEN, "may lie below -0.5 points", 0.5, (-0.1, 0.1), 9000)
    >>> needed(claim, Comparison(40, 39, 0.01, Paired(40, 36, broken=1, fixed=0)))
    '40 test images cannot settle it: it would take about 9,000, at the share of answers that \
changed here'
    """
    if claim.images_needed is None:
        return None
    by = "the share of answers that changed here"
    if comparison.metric is not None:
        by = f"changes of {comparison.metric.name} like those here"
    return (
        f"{comparison.images:,} test images cannot settle it: it would take about "
        f"{claim.images_needed:,}, at {by}"
    )


def origin(found: Origin) -> str:
    """Whether the weights are those that the plan gave where it was made, or why they may not be.

    >>> from onnxsemi._runtime.processor import Processor
    >>> old, new = (Processor(("x86_64", set), ()) for set in ("AVX2", "AVX512F"))
    >>> origin(Origin(False, old, new))
    'the same plan, rounded on another kind of processor (there: x86_64 AVX2; here: x86_64 \
AVX512F): its weights are others than where the plan was made'
    """
    there, here = found.there, found.here
    if found.same_weights:
        return "its weights are those that the plan gave where it was made, bit for bit"
    others = "its weights are others than where the plan was made"
    if there is None:
        return f"the same plan, but {others}"
    if there == here:
        return (
            f"the same plan on the same kind of processor, but {others}: was its rounding edited, "
            "or are the images others?"
        )
    another = "on another kind of processor"
    if there.features == here.features:
        another = "by other libraries or kernels of theirs"
    told = f"(there: {there.beside(here)}; here: {here.beside(there)})"
    return f"the same plan, rounded {another} {told}: {others}"
