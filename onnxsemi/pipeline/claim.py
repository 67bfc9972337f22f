"""What may be claimed of a point that a run has kept, by the run's test images or by others."""

from dataclasses import dataclass, replace
from pathlib import Path

from onnxsemi.data.images import ImageSet
from onnxsemi.data.sample import split
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.comparison import Comparison
from onnxsemi.pipeline.given import given_images
from onnxsemi.pipeline.next_step import next_command
from onnxsemi.pipeline.prepare import once
from onnxsemi.plan import BitPlan
from onnxsemi.points.frontier import KeptFrontier
from onnxsemi.run.looks import count_look, is_report
from onnxsemi.search.verdict import Verdict, verdict


@dataclass(frozen=True)
class Claim:
    """What may be claimed, and what to do next.

    Attributes:
        verdict: By the images.
        next_command: A safer point of the run; None if the verdict holds.
    """

    verdict: Verdict
    next_command: str | None


def report_images(kept: KeptFrontier, run: Path, bench: Bench) -> ImageSet | None:
    """The test images of a run, if they are still where they were; without labels as they came.

    Args:
        kept: What the run has kept.
        run: The run's folder.
        bench: The float model, with any images.
    """
    source = kept.source
    apart = source.report is not None
    path = source.report if apart else source.data
    if path is None or not path.exists() or not (apart or source.report_fraction):
        return None
    labels = source.report_labels if apart else source.options.labels
    options = replace(source.options, labels=labels)
    for_metric = kept.metric is not None
    images = given_images(path, bench.classifier.ends, options, for_metric=for_metric)
    report = once(replace(bench, images=images)).images
    if not apart and source.report_fraction is not None:
        _, report = split(report, source.report_fraction, source.seed)
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
