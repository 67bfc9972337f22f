"""What to decide by: tiles, classes, every other size with the command that writes it."""

import dataclasses
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from page_data import frontier, made_run, said
from test_page import Page, with_evidence, words

from onnxsemi._report.page import render
from onnxsemi._report.page.by_class import classes, most_changed
from onnxsemi._report.page.classes import by_class
from onnxsemi._report.page.command import apply_command, quoted
from onnxsemi._report.page.frontier import frontier as frontier_part
from onnxsemi._report.page.summary import summary
from onnxsemi._report.page.tiles import tiles, tiles_of
from onnxsemi._run.point_choice import At

SPREAD = {"seconds": 0.002, "quartiles": [0.0019, 0.0021]}


def speed(*ratios):
    """The document of a bench of two models in both kinds of session."""
    spreads = [SPREAD | {"ratio": r, "ratio_quartiles": [r - 0.1, r + 0.1]} for r in ratios]
    rows = [
        {
            **{"model": "m", "load_session": False, "file_bytes": 9, "peak_bytes": 9},
            **{"load": spread, "latency": {"1": spread}},
        }
        for spread in spreads
    ]
    return {"threads": 1, "rounds": 7, "rows": rows}


def verdict(outcome, **more):
    return {
        "outcome": outcome, "summary": "s", "reason": "may lie below", "looks": 1,
        "asked_points": 0.5, "interval": [-0.01, 0.01], "coverage": 0.95,
        "images_needed": None, "next_command": None, **more,
    }  # fmt: skip


def answered(*counts, names=None, labels=True):
    """A run by its classes: (images, right before, broken, fixed) of each, in their order."""
    rows = []
    for label, (images, before, broken, fixed) in enumerate(counts):
        other = len(counts) + 1
        first = [label] * before + [other] * (images - before)
        second = [other] * broken + first[broken:before] + [label] * fixed + first[before + fixed :]
        rows += zip([label] * images, first, second, strict=True)
    label, before, after = np.array(rows).T
    none = {"shown": np.zeros(0, int), "thumbnails": np.zeros((0, 1, 1, 1), np.uint8)}
    run = made_run(names=names, labels=labels)
    return with_evidence(run, labels=label, before=before, after=after, **none)


class TestTiles:
    @pytest.mark.parametrize(
        ("outcome", "sign"), [("holds", "✓"), ("unproven", "?"), ("fails", "✕")]
    )
    def test_a_verdict_has_a_word_a_sign_and_a_colour(self, outcome, sign):
        run = said(made_run(), verdict=verdict(outcome))
        tile = tiles_of(run.kept.document)[1]
        assert (tile.value, tile.kind) == (f"{sign} {outcome}", outcome)
        assert Page(str(tiles(run.kept.document))).of("div", outcome)

    def test_looks_are_said(self):
        run = said(made_run(), verdict=verdict("holds", looks=3))
        assert "look 3 at these images" in tiles_of(run.kept.document)[1].note

    def test_speed_in_both_kinds_of_session(self):
        run = said(made_run(), speed=speed(1.0, 1.0, 1.6, 0.8))
        tile = tiles_of(run.kept.document)[3]
        assert tile.value == "1.25x as fast"
        assert "0.80 ±0.10 of the float model's 2.00 ms by load_session" in tile.note
        assert "1.60 ±0.10 in a default session; 1 thread" in tile.note

    def test_what_to_do_where_it_does_not_hold(self):
        safer = "onnxsemi apply 'a <b>.run' --at 50.00% --out safer.onnx"
        claim = verdict("fails", images_needed=9000, next_command=safer)
        run = said(made_run(), verdict=claim)
        page = Page(str(summary(run.kept)))
        assert safer in page.text
        assert len(page.of("button", "copy")) == 1
        assert any("about 9,000 test images" in text for text in page.text)


class TestClasses:
    def test_counted_by_label(self):
        found = {c.number: c.paired for c in by_class(answered((50, 40, 5, 2), (20, 20, 0, 0)))}
        assert dataclasses.astuple(found[0]) == (50, 40, 5, 2)
        assert dataclasses.astuple(found[1]) == (20, 20, 0, 0)

    def test_they_add_up_to_all_images(self):
        run = answered((50, 40, 5, 2), (20, 18, 0, 1), (3, 3, 1, 0))
        evidence, found = run.kept.evidence, [c.paired for c in by_class(run)]
        assert sum(p.total for p in found) == len(evidence.labels)
        right = [evidence.before == evidence.labels, evidence.after == evidence.labels]
        assert sum(p.broken for p in found) == (right[0] & ~right[1]).sum()
        assert sum(p.fixed for p in found) == (right[1] & ~right[0]).sum()

    def test_worst_first_and_few_images_last(self):
        run = answered((50, 40, 0, 2), (50, 40, 5, 0), (2, 2, 2, 0), (50, 50, 0, 0), (90, 9, 0, 0))
        assert [c.number for c in by_class(run)] == [1, 4, 3, 0, 2]
        text = words(classes(run))
        assert "1 of them have fewer than 10 images, which say little: they come last" in text
        assert "2 / 0few images" in text

    def test_a_loss_is_said_only_where_the_interval_shows_it(self):
        text = words(classes(answered((500, 400, 40, 2), (500, 400, 3, 1), (500, 400, 0, 30))))
        assert "A loss is shown in 1 of them, a gain in 1" in text
        assert "40 / 2loss" in text
        assert "3 / 1loss" not in text
        assert "0 / 30gain" in text

    def test_names_and_numbers(self):
        page = Page(str(classes(answered((20, 20, 1, 0), (20, 20, 0, 0), names=["<a>", "b"]))))
        assert {"<a>", "b"} <= set(page.text)
        page = Page(str(classes(answered((20, 20, 1, 0), (20, 20, 0, 0)))))
        assert {"0", "1"} <= set(page.text)

    def test_of_many_the_most_changed_are_shown_and_all_are_folded(self):
        counts = [(20, 10, max(0, 5 - n), max(0, n - 995)) for n in range(1000)]
        run = answered(*counts)
        shown = most_changed(by_class(run))
        assert [c.number for c in shown[:5]] == [0, 1, 2, 3, 4]
        assert [c.number for c in shown[-4:]] == [996, 997, 998, 999]
        page = Page(str(classes(run)))
        assert len(page.of("tr")) == 1 + len(shown) + 1 + 1000
        assert "All 1,000 classes" in page.text
        assert len(render(run)) < 3_000_000

    def test_without_labels_nothing_is_lost(self):
        run = answered((50, 50, 5, 0), (20, 20, 0, 0), labels=False)
        text = words(classes(run))
        assert "90.0%78.2% to 96.7%" in text
        assert "without labels no answer is right or wrong" in text
        for word in ("broken", "loss", "fixed", "gain", "accuracy"):
            assert word not in text

    def test_one_class(self):
        assert "1 class with test images" in words(classes(answered((20, 20, 0, 0))))

    def test_the_bar_says_what_it_shows(self):
        run = answered((500, 400, 40, 2), (500, 400, 3, 3))
        bars = Page(str(classes(run))).of("svg", "interval")
        assert [bar["class"] for bar in bars] == ["interval broken", "interval even"]
        assert bars[0]["aria-label"].startswith("change −7.60, from −10")


class TestFrontier:
    def test_every_point_has_its_command(self):
        run = made_run(path="my run's & <b>.run")
        drawn = Page(str(frontier_part(run)))
        commands = [text for text in drawn.text if text.startswith("onnxsemi apply")]
        assert len(set(commands)) == len(run.frontier.points)
        for point in run.frontier.points:
            given = shlex.split(apply_command(run, point))
            assert " ".join(commands).count(apply_command(run, point)) >= 1
            assert given[:4] == ["onnxsemi", "apply", "my run's & <b>.run", "--at"]
            assert At.parse(given[4]).pick(run.frontier) is point
            assert given[5] == "--out"
            assert given[6].startswith("out/small-")

    def test_outputs_do_not_overwrite_each_other(self):
        run = made_run()
        outputs = [shlex.split(apply_command(run, p))[-1] for p in run.frontier.points]
        assert len(set(outputs)) == len(outputs)
        assert run.kept.document.output not in outputs

    def test_the_profile_is_the_runs(self):
        run = made_run()
        kept = dataclasses.replace(run.frontier, profile="int8")
        run = dataclasses.replace(run, frontier=kept)
        assert "--profile int8" in apply_command(run, kept.points[0])

    def test_the_chosen_one_is_marked(self):
        drawn = Page(str(frontier_part(made_run())))
        assert len(drawn.of("circle", "ring")) == 1
        assert drawn.text.count("written") == 2  # in both tables

    def test_a_mark_a_point_and_hollow_if_it_was_not_measured(self):
        run = made_run()
        marks = Page(str(frontier_part(run))).of("circle", "mark")
        assert len(marks) == len(run.frontier.points)
        hollow = sum("hollow" in mark["class"] for mark in marks)
        assert hollow == sum(not point.measured for point in run.frontier.points)
        tips = "\n".join(mark["data-tip"] for mark in marks)
        assert "KL measured 0.08 nats" in tips
        assert "KL predicted 0.06 nats" in tips
        assert "rejected: reason <1>" in tips

    def test_smaller_is_further_left_and_less_kl_increase_further_down(self):
        run = made_run()
        marks = Page(str(frontier_part(run))).of("circle", "mark")
        x, y = ([float(mark[k]) for mark in marks] for k in ("cx", "cy"))
        points = run.frontier.points
        assert np.argsort(x).tolist() == np.argsort([p.file_bytes for p in points]).tolist()
        kl_increase = [p.predicted if p.kl is None else p.kl for p in points]
        assert np.argsort(y).tolist() == np.argsort(kl_increase)[::-1].tolist()

    def test_without_kl_the_change_is_drawn(self):
        run = dataclasses.replace(made_run(), frontier=frontier(plain=True))
        text = str(frontier_part(run))
        assert "change on the calibration images, points" in text
        assert len(Page(text).of("circle", "mark")) == 2

    def test_without_labels(self):
        text = words(frontier_part(made_run(labels=False)))
        assert "95.50% [91.63, 97.92]" in text
        assert "broken" not in text


class TestQuoted:
    WORDS = (
        "a b",
        "it's",
        "$HOME `id`",
        "a\nb",
        "\x1b[31m",
        "\\x",
        "<b>",
        "ä",
        "a\udcffb",
        "\u202e",
    )

    @pytest.mark.parametrize("word", WORDS, ids=ascii)
    def test_bash_takes_them_for_what_they_are(self, word):
        said = subprocess.run(
            ["bash", "-c", f"printf %s {quoted([word])}"], capture_output=True, check=True
        ).stdout
        assert said == word.encode("utf-8", "surrogateescape")

    def test_nothing_that_cannot_be_seen_is_left(self):
        assert all(quoted([word]).isprintable() for word in self.WORDS)


def test_the_path_is_named_as_it_was_given():
    run = made_run(path="../else where/small.run")
    assert Path(shlex.split(apply_command(run, run.frontier.points[0]))[2]) == run.path
