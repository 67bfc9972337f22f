"""Two runs side by side: both results, what differs, and what must not be compared."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from command_line import assert_one_line, run
from page_data import made_run, said
from test_page import Page, words
from test_page_decide import answered

from onnxsemi._report.page import render_two
from onnxsemi._report.record import keep_result
from onnxsemi._run.folder import MadeOf, open_run
from onnxsemi._run.frontier_file import write_frontier
from onnxsemi._stats.paired import Paired

NAMES = [f"class {number}" for number in range(8)]


def pair(**made):
    """Two runs that differ in what is given to the second."""
    one = made_run(path="a/one.run", names=NAMES)
    other = made_run(path="b/two.run", names=NAMES, seed=1)
    return one, said(other, lambda document: document["made_from"].update(made))


def text_of(*runs):
    return words(render_two(*runs))


class TestResults:
    def test_tiles_of_both(self):
        page = Page(render_two(*pair()))
        assert len(page.of("dl", "tiles")) == 2
        assert [text for text in page.text if text in {"A: one.run", "B: two.run"}][:2] == [
            "A: one.run",
            "B: two.run",
        ]

    def test_runs_of_one_name_are_called_by_their_paths(self):
        page = render_two(made_run(path="a/x.run"), made_run(path="b/x.run"))
        assert "A: a/x.run" in page
        assert "B: b/x.run" in page

    def test_image_by_image_where_the_images_are_the_same(self):
        one, other = answered((60, 50, 5, 1)), answered((60, 50, 2, 4))
        first, second = (r.kept.evidence for r in (one, other))
        paired = Paired.of(first.after == first.labels, second.after == second.labels)
        text = text_of(one, other)
        assert f"changes by {100 * paired.change:+.2f} points" in text
        assert f"{paired.broken} right answers of A are broken and {paired.fixed} fixed" in text
        assert f"{(first.after == second.after).sum()} of 60 test images" in text

    def test_without_labels_no_answer_is_right(self):
        text = text_of(*(made_run(path=f"{name}.run", labels=False) for name in "ab"))
        assert "A and B give the same answer on 100 of 100 test images" in text
        assert "accuracy" not in text.lower()
        assert "broken" not in text

    def test_both_frontiers_in_one_chart(self):
        one, other = pair()
        page = Page(render_two(one, other))
        assert len(page.of("circle", "now")) == len(one.frontier.points)
        assert len(page.of("path", "other-run")) == len(other.frontier.points)
        assert len(page.of("circle", "ring")) == 2
        assert len({mark["data-tip"].split("\n")[0] for mark in page.of("path", "other-run")}) == 1


class TestDifferences:
    def test_none(self):
        text = text_of(*pair())
        assert "None: the same model, images, settings and versions" in text
        assert "cannot be compared" not in text

    def test_settings_and_versions(self):
        text = text_of(*pair(**{"--seed": 7, "numpy": "3.0", "--align": 16}))
        assert "--seed07" in text
        assert "numpy2.03.0" in text
        assert "--alignnot set16" in text
        assert "--bits" not in text.partition("How they were made")[0].partition("differ")[2]

    @pytest.mark.parametrize(
        ("part", "said"),
        [
            ("model", "The two runs are of different models"),
            ("test data", "The test images of the two runs differ"),
            ("calibration data", "The calibration images of the two runs differ"),
        ],
    )
    def test_what_must_not_be_compared_is_said_first(self, part, said):
        page = Page(render_two(*pair(**{part: "99" * 32})))
        [note] = page.of("ul", "caution")
        assert note["role"] == "note"
        text = " ".join(page.text)
        assert text.index(said) < text.index("A: one.run", text.index(said))
        assert "999999999999…" in text

    def test_other_images_are_not_compared_one_by_one(self):
        assert "of A are broken" not in text_of(*pair(**{"test data": "99" * 32}))

    def test_labels_and_none(self):
        text = text_of(made_run(path="a.run"), made_run(path="b.run", labels=False))
        assert "accuracy and agreement cannot be compared" in text
        assert "by class" not in text.partition("How they were made")[2]


class TestClasses:
    def test_side_by_side_worst_of_either_first(self):
        one = answered((60, 50, 5, 1), (60, 50, 0, 0), (60, 50, 0, 1))
        other = answered((60, 50, 0, 1), (60, 50, 0, 0), (60, 50, 9, 0))
        page = Page(render_two(one, dataclasses.replace(other, path=one.path.with_name("b.run"))))
        bars = page.of("svg", "interval")
        assert len(bars) == 6
        changes = [float(b["aria-label"].split()[1][:-1].replace("−", "-")) for b in bars]
        worst = [min(two) for two in np.array(changes).reshape(3, 2)]
        assert worst == sorted(worst)

    @pytest.mark.parametrize(
        ("other", "shown"),
        [({}, True), ({"names": ["a"] * 8}, False), ({"changes": ((2, 2, 2),)}, False)],
    )
    def test_only_of_the_same_classes(self, other, shown):
        one = made_run(path="a.run", names=NAMES)
        page = render_two(one, made_run(path="b.run", **{"names": NAMES, **other}))
        assert ('id="classes"' in page) == shown

    def test_numbers_of_different_models_are_no_classes(self):
        _, other = pair(model="99" * 32)
        assert 'id="classes"' not in render_two(made_run(path="a.run"), other)

    def test_of_other_images_it_says_so(self):
        text = text_of(*pair(**{"test data": "99" * 32}))
        assert "only the changes within a run count" in text


def test_escaped_and_self_contained():
    evil = "<script>alert(1)</script>\"'&$title"
    runs = [made_run({evil: 4}, path=f"{evil}{place}", names=[evil] * 4) for place in (1, 2)]
    runs = [
        said(
            made,
            lambda document, path=str(made.path): document["made_from"].update(
                {"--exclude": [path]}
            ),
            **{"output": evil, "command": evil, "tool": evil},
        )
        for made in runs
    ]
    page = Page(render_two(*runs))
    assert len(page.of("script")) == 1
    addresses = [a[k] for _, a in page.elements for k in ("src", "href") if k in a]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.of("a")} <= set(ids)
    assert not re.search(r"(?<!\w)(url\(|@import|fetch\(|https?://)", render_two(*runs))


def test_same_bytes():
    assert render_two(*pair()) == render_two(*pair())


@pytest.fixture(scope="module")
def kept_runs(tmp_path_factory):
    """Folders of two runs."""
    place = tmp_path_factory.mktemp("two")
    for name in ("a b.run", "c.run"):
        made = made_run()
        with open_run(place / name, MadeOf({"model": "m"}, {}), resume=False) as folder:
            keep_result(folder, made.kept.document, made.kept.evidence)
            write_frontier(made.frontier, place / name)
    return place


class TestCommand:
    def test_two_runs(self, kept_runs, tmp_path):
        page = tmp_path / "both.html"
        result = run("report", kept_runs / "a b.run", kept_runs / "c.run", "--out", page)
        assert result.exit_code == 0, result.output
        assert "Both results" in page.read_text()

    def test_of_one_the_commands_name_it_as_it_was_given(self, kept_runs, monkeypatch):
        monkeypatch.chdir(kept_runs)
        assert run("report", "a b.run", "--out", "one.html").exit_code == 0
        assert "onnxsemi apply &#x27;a b.run&#x27; --at " in (kept_runs / "one.html").read_text()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("a b.run", "c.run"), "say where to write their page, such as --out"),
            (("a b.run", "c.run", "c.run", "--out", "x.html"), "3 runs: a page shows one, or two"),
            (("c.run", "../two0/c.run", "--out", "x.html"), "is the same run twice"),
            ((), "Missing argument"),
        ],
    )
    def test_a_wrong_command_line(self, kept_runs, monkeypatch, words, said):
        monkeypatch.chdir(kept_runs)
        words = [word.replace("two0", kept_runs.name) for word in words]
        assert_one_line(run("report", *words), said, code=2)
        assert not (kept_runs / "x.html").exists()

    @pytest.mark.parametrize("name", ["a b.run/report.html", "c.run/x.html", "c.run"])
    def test_in_no_folder_of_a_run(self, kept_runs, monkeypatch, name):
        monkeypatch.chdir(kept_runs)
        result = run("report", "a b.run", "c.run", "--out", name)
        assert_one_line(result, "lies in the folder of a run")

    def test_one_that_is_no_run(self, kept_runs, tmp_path):
        result = run("report", kept_runs / "c.run", tmp_path, "--out", tmp_path / "x.html")
        assert_one_line(result, "holds no run")

    def test_a_frontier_that_is_missing(self, kept_runs, tmp_path):
        copy = shutil.copytree(kept_runs / "c.run", tmp_path / "c.run")
        (copy / "frontier.json").unlink()
        assert_one_line(run("report", copy), "holds no frontier.json")
        assert not (copy / "report.html").exists()
