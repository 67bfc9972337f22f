"""What may be claimed of a point that a run has kept, by the run's test images or by others."""

from dataclasses import dataclass, replace
from pathlib import Path

from onnxsemi._data.images import ImageSet
from onnxsemi._data.sample import split
from onnxsemi._evaluation.workload import Workload
from onnxsemi._pipeline.advice import next_command
from onnxsemi._pipeline.preparation import once
from onnxsemi._pipeline.user_images import given_images
from onnxsemi._plan.bits import BitPlan
from onnxsemi._reading import is_there
from onnxsemi._run.frontier import KeptFrontier
from onnxsemi._run.looks import count_look, is_report
from onnxsemi._search.verdict import Verdict, verdict
from onnxsemi._stats.comparison import Comparison


@dataclass(frozen=True)
class Claim:
    """What may be claimed, and what to do next.

    Attributes:
        verdict: By the images.
        next_command: A safer point of the run; None if the verdict holds.
    """

    verdict: Verdict
    next_command: str | None


def report_images(kept: KeptFrontier, run: Path, workload: Workload) -> ImageSet | None:
    """The test images of a run, if they are still where they were; without labels as they came.

    Args:
        kept: What the run has kept.
        run: The run's folder.
        workload: The float model, with any images.
    """
    source = kept.source
    apart = source.report is not None
    path = source.report if apart else source.data
    if path is None or not is_there(path) or not (apart or source.test_fraction):
        return None
    labels = source.test_labels if apart else source.options.labels
    options = replace(source.options, labels=labels)
    for_metric = kept.metric is not None
    images = given_images(path, workload.classifier.ends, options, for_metric=for_metric)
    report = once(replace(workload, images=images)).images
    if not apart and source.test_fraction is not None:
        _, report = split(report, source.test_fraction, source.seed)
    if not is_report(run, report.fingerprint()):
        return None
    return report if kept.has_labels and kept.metric is None else replace(report, labels=None)


def claimed(
    kept: KeptFrontier, run: Path, plan: BitPlan, shown: tuple[ImageSet, Comparison], output: Path
) -> Claim:
    """Judge a point by images.

    Args:
        kept: The run that it is a point of.
        run: The run's folder: looks at its test images are counted there.
        plan: Bits of every target channel.
        shown: Labelled images, and float against the point on them.
        output: Where the point is to be written.
    """
    images, comparison = shown
    has_labels, guard = comparison.labelled, kept.guard
    if has_labels != guard.has_labels:
        guard = guard.with_labels(has_labels=has_labels)
    fingerprint = images.fingerprint()
    looks = count_look(run, fingerprint, plan.sha256) if is_report(run, fingerprint) else 1
    found = verdict(guard, comparison, looks)
    return Claim(found, None if found.holds else next_command(kept, plan, run, output))
