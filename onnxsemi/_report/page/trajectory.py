"""Compression against accuracy: every trial of the search."""

from collections.abc import Iterator, Sequence

from onnxsemi._report.page.markup import Markup, join, number, tag
from onnxsemi._report.page.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Axis,
    figure,
    folded,
    legend,
    mark,
    plot,
    table,
)
from onnxsemi._report.page.scale import Kind, Scale, spread
from onnxsemi._report.page.words import Words, points, words_of
from onnxsemi._report.parts import Score, TrialPart
from onnxsemi._report.record import RunRecord

_TAKEN = ("kept", "quantized")
_WIDE = 4.0
"""Percentage points beyond which the scale of the change is stretched around zero."""

_MANY = 50
"""Trials beyond which their dots are smaller."""


def trajectory(kept: RunRecord) -> Markup:
    """The figure, and the same as a table."""
    document = kept.document
    trials, sizes = document.trials, [100 * float(value) for value in kept.evidence.tried]
    chosen, base = document.chosen, document.baseline
    changes = [_change(trial, base) for trial in trials]
    end = (100 * chosen.compression, _change(chosen, base))
    x = Scale(*spread([*sizes, end[0]], 0.5), LEFT, RIGHT)
    y = _changes(spread([*changes, end[1], 0.0], 0.4))
    places = [(x.at(a), y.at(b)) for a, b in zip(sizes, changes, strict=True)]
    words = words_of(document)
    tips = [_tip(*row, words) for row in zip(trials, sizes, changes, strict=True)]
    float_line = join(
        tag("path", d=f"M{number(LEFT)} {number(y.at(0))}H{number(RIGHT)}", class_="float"),
        tag(
            "text",
            f"float32 {base.right / base.total:.2%}",
            class_="note end",
            x=RIGHT,
            y=y.at(0) - 6,
        ),
    )
    radius = 5.0 if len(trials) <= _MANY else 3.5
    marks = [
        mark("circle", tip, _look(trial), cx=place[0], cy=place[1], r=radius)
        for trial, place, tip in zip(trials, places, tips, strict=True)
    ]
    drawn = join(float_line, *_lines(trials, places), *marks, _chosen(x.at(end[0]), y.at(end[1])))
    labelled = plot(
        Axis(x, "target weights smaller by (the paper's ratio)", " %"),
        Axis(y, f"change of {words.short} on the calibration images, points"),
        tag("g", drawn, class_="marks" if len(trials) <= _MANY else "marks many"),
        label=f"Compression against {words.short}: {len(trials)} trials of the search",
    )
    phases = list(dict.fromkeys(trial.phase for trial in trials))
    keys = [
        *((_phase(phase), f"{phase} phase") for phase in phases),
        ("hollow", "not taken"),
    ]
    return join(
        legend([*keys, ("ring", "written to the file")]),
        figure(
            labelled,
            f"{len(trials)} trials on {base.total:,} calibration images. "
            f"The search ended because: {document.stop}.",
        ),
        folded("All trials as a table", _table(trials, sizes, changes, words)),
    )


def _change(score: Score, base: Score) -> float:
    return 100 * (score.right - base.right) / int(base.total)


def _changes(ends: tuple[float, float]) -> Scale:
    if ends[1] - ends[0] < _WIDE:
        return Scale(*ends, BOTTOM, TOP)
    return Scale(*ends, BOTTOM, TOP, Kind.STRETCHED, 1.0)


def _phase(phase: str) -> str:
    return f"p-{phase}"


def _look(trial: TrialPart) -> str:
    return _phase(trial.phase) + ("" if trial.decision in _TAKEN else " hollow")


def _lines(trials: Sequence[TrialPart], places: Sequence[tuple[float, float]]) -> Iterator[Markup]:
    """Taken trials of a phase in their order; the postponing phase has a branch a bitwidth."""
    groups: dict[tuple[object, ...], list[tuple[float, float]]] = {}
    for trial, place in zip(trials, places, strict=True):
        if trial.decision in _TAKEN:
            branch = trial.bits if trial.phase == "postponing" else None
            groups.setdefault((trial.phase, branch), []).append(place)
    for (phase, _), line in groups.items():
        path = "L".join(f"{number(a)} {number(b)}" for a, b in line)
        yield tag("path", d=f"M{path}", class_=f"line {_phase(str(phase))}")


def _chosen(x: float, y: float) -> Markup:
    side = "end" if x > (LEFT + RIGHT) / 2 else ""
    shift = -13 if side else 13
    return join(
        tag("circle", cx=x, cy=y, r=9.5, class_="ring"),
        tag("text", "written to the file", x=x + shift, y=y - 10, class_=f"note strong {side}"),
    )


def _semilayer(trial: TrialPart) -> str:
    if trial.layer is None:
        return "a plan of the frontier"
    return f"{trial.layer}, {trial.sign}, to {trial.bits} bits"


def _counts(trial: TrialPart) -> str:
    if trial.broken is not None:
        return f"{trial.broken:,}/{trial.fixed:,}"
    return f"{trial.changed:,}" if trial.changed is not None else ""


def _share(trial: TrialPart) -> str:
    broken_off = trial.decision == "postponed" and trial.measured < trial.total
    most = "at most " if broken_off else "about " if trial.decision == "scouted" else ""
    return f"{most}{trial.right / trial.total:.2%}"


def _tip(trial: TrialPart, size: float, change: float, words: Words) -> str:
    counts = _counts(trial)
    return "\n".join(
        [
            f"Trial {trial.number}, {trial.phase} phase",
            _semilayer(trial),
            f"{size:.2f} % smaller",
            f"{words.short} {_share(trial)} ({points(change / 100)} points)",
            *([f"{words.counted} {counts}"] if counts else []),
            f"{trial.decision}: {trial.reason}",
        ]
    )


def _table(
    trials: Sequence[TrialPart], sizes: Sequence[float], changes: Sequence[float], words: Words
) -> Markup:
    rows = [
        (
            trial.number,
            trial.phase,
            _semilayer(trial),
            f"{size:.2f} %",
            _share(trial),
            points(change / 100),
            _counts(trial),
            trial.decision,
            trial.reason,
        )
        for trial, size, change in zip(trials, sizes, changes, strict=True)
    ]
    headings = ("trial", "phase", "what", "smaller by", words.short, "points")
    return table(
        (*headings, words.counted, "decision", "reason"), rows, caption="Trials of the search"
    )
