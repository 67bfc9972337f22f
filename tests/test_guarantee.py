"""What the allowed drop is asked of: in the settings, in the search, on the command line."""

import json
import math

import numpy as np
import pytest
from command_line import assert_one_line, compress_command, frontier_command, run
from hypothesis import given
from hypothesis import settings as run_settings
from hypothesis import strategies as st
from residual_net import save_noise
from test_walk import LADDER, SEEDS, Fake

from onnxsemi._errors import SettingsError
from onnxsemi._search.few_images import images_to_show
from onnxsemi._search.frontier_search import FrontierSearch, FrontierSettings
from onnxsemi._search.guard import Guarantee, IntervalGuard, PointGuard
from onnxsemi._search.protocols import Closeness
from onnxsemi._search.settings import SearchSettings
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._search.trajectory import Decision
from onnxsemi._stats.paired import Paired

quickly = run_settings(deadline=None, derandomize=True)
Z = 1.959963984540054
METHODS = ("frontier", "semilayer")


def paired(total, broken, fixed):
    return Paired(total, total - fixed, broken, fixed)


def interval_guard(max_drop, **more):
    return IntervalGuard(max_drop=max_drop, **more)


class TestSettings:
    @pytest.mark.parametrize("method", METHODS)
    def test_both_methods_ask_the_same(self, method):
        settings = SearchSettings(method=method, max_drop=1, guarantee="interval")
        assert settings.guarantee is Guarantee.INTERVAL
        asked = settings.strategy
        for labels in (True, False):
            assert asked.guard(has_labels=labels) == interval_guard(1, has_labels=labels)
            assert set(asked.guards(has_labels=labels)) <= {asked.guard(has_labels=labels)}
        asked = SearchSettings(method=method, max_drop=1, guarantee="point").strategy
        assert asked.guard(has_labels=True) == PointGuard(max_drop=1)

    def test_unless_asked_for_the_frontier_takes_half_of_what_changes_as_broken(self):
        known, balance = FrontierSearch(FrontierSettings(max_drop=1)).guards(has_labels=True)
        assert known == ToleranceGuard(max_drop=1, tolerance=0.5)
        assert balance == ToleranceGuard(max_drop=1, tolerance=0.5, balanced=True)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"guarantee": "sure"}, "sure"),
            ({"guarantee": "point", "tolerance": 1}, "`tolerance`: has no meaning with"),
        ],
        ids=str,
    )
    def test_others_are_refused(self, given, words):
        with pytest.raises(SettingsError, match=words):
            SearchSettings(**given)


class TestInterval:
    @pytest.mark.parametrize(
        ("broken", "fixed", "holds"),
        [(0, 0, True), (20, 20, True), (21, 20, True), (60, 60, False), (4000, 0, False)],
        ids=str,
    )
    def test_by_hand(self, broken, fixed, holds):
        """Half a point of 4,000: (fixed - broken) / 4002 less the half width, from the formula."""
        low = (fixed - broken) / 4002
        low -= Z * math.sqrt(((broken + fixed + 2) / 4002 - low**2) / 4002)
        assert (100 * low >= -0.5) == holds
        finding = interval_guard(0.5).judge(paired(4000, broken, fixed))
        assert finding.holds == holds
        assert f"({broken:,} broken, {fixed:,} fixed of 4,000)" in finding.text

    @quickly
    @given(st.integers(1, 3000), st.floats(0, 3), st.data())
    def test_is_never_easier_than_the_point(self, total, max_drop, data):
        broken = data.draw(st.integers(0, total))
        found = paired(total, broken, data.draw(st.integers(0, total - broken)))
        if interval_guard(max_drop).judge(found).holds:
            assert PointGuard(max_drop=max_drop).judge(found).holds

    def test_without_labels_every_change_is_lost(self):
        finding = interval_guard(1, has_labels=False).judge(paired(4000, 30, 0))
        assert finding.text == (
            "agreement may be as low as 98.97 %; allowed is 99.00 % (30 of 4,000 answers changed)"
        )
        assert not finding.holds

    def test_point_without_labels(self):
        finding = PointGuard(max_drop=1, has_labels=False).judge(paired(4000, 30, 0))
        assert (finding.holds, finding.text) == (
            True,
            "30 of 4,000 answers changed; allowed are 40",
        )

    def test_more_won_than_lost(self):
        assert (
            PointGuard(max_drop=0)
            .judge(paired(40, 1, 3))
            .text.startswith("2 more fixed than broken")
        )


class TestTooFewImages:
    @pytest.mark.parametrize("count", [1, 10, 60, 500, 4000, 100_000])
    def test_what_is_advised_is_taken(self, count):
        with pytest.raises(SettingsError, match="`guarantee` interval: on") as error:
            interval_guard(0).check_images(count)
        assert "or it takes" not in str(error.value)  # no number is enough for 0
        least = float(str(error.value).rpartition("must be at least ")[2])
        interval_guard(least).check_images(count)

    @pytest.mark.parametrize("max_drop", [0.01, 0.05, 0.3])
    def test_as_many_as_it_takes_are_taken(self, max_drop):
        with pytest.raises(SettingsError, match="or it takes") as error:
            interval_guard(max_drop).check_images(60)
        said = str(error.value).rpartition("it takes ")[2].split()[0]
        needed = int(said.replace(",", ""))
        interval_guard(max_drop).check_images(needed)
        with pytest.raises(SettingsError):
            interval_guard(max_drop).check_images(needed - 1)

    def test_others_ask_for_no_number_of_images(self):
        PointGuard(max_drop=0).check_images(1)
        ToleranceGuard(max_drop=0, tolerance=0.5).check_images(1)

    @quickly
    @given(st.integers(1, 3000), st.floats(0.05, 3), st.booleans(), st.data())
    def test_a_finding_says_how_many_it_would_take(self, total, allowed, balanced, data):
        """And if the images are few, so many that they are not any more."""
        broken = data.draw(st.integers(0, total))
        found = paired(total, broken, data.draw(st.integers(0, total - broken)))
        guard = ToleranceGuard(max_drop=allowed / 2, tolerance=allowed / 2, balanced=balanced)
        finding, few = guard.judge(found, Closeness(0.0, 0)), guard.few(total)
        assert finding.asked == pytest.approx(allowed)
        assert (finding.allowed > finding.asked) == few
        if balanced:
            half, odd = divmod(found.broken + found.fixed, 2)
            found = paired(total, half + odd, half)
        wide = found.half_width > allowed / 100
        assert (finding.images_needed is None) == (not wide and not few)
        if finding.images_needed is not None:
            assert finding.images_needed > total
            settled = found.images_for(allowed / 100) if wide else 0
            assert finding.images_needed == max(settled, images_to_show(guard.asked) if few else 0)
            assert not guard.few(finding.images_needed)

    def test_nothing_tells_a_drop_of_nothing(self):
        assert PointGuard(max_drop=0).judge(paired(40, 2, 2)).images_needed is None


class TestSearch:
    @pytest.mark.parametrize("has_labels", [True, False], ids=["labels", "none"])
    @pytest.mark.parametrize("guarantee", Guarantee)
    @pytest.mark.parametrize("max_drop", [0.3, 1, 5])
    def test_every_point_of_the_frontier_holds(self, max_drop, guarantee, has_labels):
        for seed in SEEDS:
            fake = Fake(seed, share=0.8)
            if not has_labels:
                fake = Fake(seed, share=1.0, has_labels=False)
            asked = {"max_drop": max_drop, "guarantee": guarantee}
            found = fake.walk(FrontierSettings(bits=LADDER, **asked))
            assert len(found.points) > 1
            for point in found.points[1:]:
                counts = Paired.of(fake.checker.before, fake.checker.check(point.plan).right)
                end = counts.interval[0] if guarantee is Guarantee.INTERVAL else counts.change
                assert 100 * end >= -max_drop - 1e-9
            # the search did not stop for nothing
            narrowest = found.smallest.plan.mean_bits == LADDER[-1]
            assert narrowest or Decision.REJECTED in {trial.decision for trial in found.trials}


@pytest.mark.parametrize("method", METHODS)
class TestCommand:
    def command(self, folder, method, tmp_path, *more):
        command = frontier_command if method == "frontier" else compress_command
        small = ("--rounding-samples", "40") if method == "frontier" else ()
        return run(*command(folder, tmp_path / "out.onnx", *small, *more))

    def test_says_at_once_what_can_never_hold(self, folder, method, tmp_path):
        found = self.command(folder, method, tmp_path, "--guarantee", "interval", "-q")
        assert_one_line(found, "on 60 calibration images", "--max-drop 0 must be at least 4.471")
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    @pytest.mark.parametrize("labels", [True, False], ids=["labels", "none"])
    @pytest.mark.parametrize("guarantee", Guarantee)
    def test_the_choice_honours_it(self, folder, method, guarantee, labels, tmp_path):
        inputs = []
        for name, count, seed in (("s", 300, 1), ("r", 40, 2)):
            inputs.append(
                save_noise(tmp_path / f"{name}.npz", count=count, seed=seed, labels=labels)
            )
        out, layers = tmp_path / "o.onnx", ("--method", method, "--rounding-samples", "40")
        data = ("-d", inputs[0], "--report-data", inputs[1], "-o", out, "--json", "--force")
        asked = ("--guarantee", guarantee, "--max-drop", "4")
        found = run("compress", folder / "model.onnx", *data, *layers, *asked)
        assert found.exit_code == 0, found.output
        document = json.loads(found.stdout)
        search, report = document["search"], document["report"]
        if labels:
            counts = [
                paired(part["images"], part["broken"], part["fixed"]) for part in (search, report)
            ]
        else:
            counts = [paired(p["images"], p["images"] - p["same"], 0) for p in (search, report)]
        ends = [c.interval[0] if guarantee is Guarantee.INTERVAL else c.change for c in counts]
        assert 100 * ends[0] >= -4 - 1e-9
        claim = document["verdict"]
        assert (claim["outcome"] == "holds") == (100 * ends[1] >= -4 - 1e-9)
        assert (claim["outcome"] == "fails") == (100 * counts[1].interval[1] < -4)
        assert claim["asked_points"] == 4
        assert claim["looks"] == 1
        assert f"on {counts[1].total} test images" in claim["summary"] or not labels
        assert document["asked"]["allowed_points"] == 4


def test_a_choice_that_no_plan_allows_is_one_line(folder, tmp_path):
    """60 images allow no interval of 4.5 points but that of no change at all."""
    rng = np.random.default_rng(0)
    more = ("--guarantee", "interval", "--max-drop", "4.5", "--bits", "1", "--targets", "all", "-q")
    save_noise(tmp_path / "s.npz", count=60, seed=int(rng.integers(9)))
    data = ("-d", tmp_path / "s.npz", "--report-data", folder / "report.npz", "--force")
    found = run("compress", folder / "model.onnx", *data, "-o", tmp_path / "o.onnx", *more)
    words = "an interval that reaches at most 4.5 points down on 60 calibration images"
    assert_one_line(found, words, code=4)
    assert not (tmp_path / "o.onnx").exists()
