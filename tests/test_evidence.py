"""What a run keeps for its report: it is what was measured, and a changed file is refused."""

import dataclasses
import errno
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from page_data import kept

from onnxsemi._data.images import ImageSet
from onnxsemi._errors import RunError
from onnxsemi._pipeline.evidence import Answers, changed_answers, thumbnails, tried
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import Semilayer, Sign, TargetLayer
from onnxsemi._report import record
from onnxsemi._report.record import keep_result, read_result
from onnxsemi._run.folder import MadeOf, nowhere, open_run
from onnxsemi._search.protocols import Score
from onnxsemi._search.ranking import Ranked
from onnxsemi._search.trajectory import Decision, Phase, Point, Trajectory, Trial
from onnxsemi._stats.likelihood import CATEGORICAL

SCORE = Score(9, 10, 10, 0.1)


@pytest.fixture
def run(tmp_path):
    """A run with a result."""
    result = kept()
    with open_run(tmp_path / "a.run", MadeOf({"model": "m"}, {}), resume=False) as run:
        keep_result(run, result.document, result.evidence)
    return tmp_path / "a.run"


def begun(path):
    with open_run(path, MadeOf({}, {}), resume=False):
        pass


class TestKept:
    def test_read_as_it_was_written(self, run):
        written, read = kept(), read_result(run)
        assert read.document == structs.replace(written.document, run=str(run))
        for item in dataclasses.fields(written.evidence):
            one, other = (getattr(k.evidence, item.name) for k in (written, read))
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)

    def test_same_bytes(self, run):
        before = [(run / name).read_bytes() for name in ("result.json", "evidence.npz")]
        with open_run(run, MadeOf({"model": "m"}, {}), resume=True) as again:
            keep_result(again, kept().document, kept().evidence)
        assert before == [(run / name).read_bytes() for name in ("result.json", "evidence.npz")]

    def test_a_run_that_keeps_nothing(self):
        keep_result(nowhere(), kept().document, kept().evidence)

    def test_a_new_run_does_not_keep_the_result_of_the_last(self, run):
        (run / "report.html").write_text("old")
        with open_run(run, MadeOf({"model": "m"}, {}), resume=True) as again:
            again.finish(held=True)
        with open_run(run, MadeOf({"model": "m", "--seed": 1}, {}), resume=False):
            pass
        assert {p.name for p in run.iterdir()} <= {"run.json", ".lock", "spent.json"}

    @pytest.mark.parametrize(
        "damage",
        [
            lambda run: (run / "result.json").write_text("{"),
            lambda run: (run / "result.json").write_text("[]"),
            lambda run: (run / "result.json").write_text("{}"),
            lambda run: (run / "result.json").write_bytes(b"\xff\xfe"),
            lambda run: (run / "evidence.npz").write_bytes(b""),
            lambda run: (run / "evidence.npz").write_bytes(b"PK\x03\x04"),
            lambda run: np.savez(run / "evidence.npz", x=np.zeros(3)),
            lambda run: np.savez(run / "evidence.npz", bits=np.array([{}], object)),
        ],
    )
    def test_damaged(self, run, damage):
        damage(run)
        with pytest.raises(RunError, match=r"damaged, or was changed.*`resume`"):
            read_result(run)

    def test_edited_by_hand(self, run):
        text = (run / "result.json").read_text()
        assert '"broken":' in text
        (run / "result.json").write_text(text.replace('"broken":', '"broken":1', 1))
        with pytest.raises(RunError, match="was changed"):
            read_result(run)

    def test_of_two_results(self, run, tmp_path):
        other = kept(seed=1)
        with open_run(tmp_path / "b.run", MadeOf({"model": "m"}, {}), resume=False) as second:
            keep_result(second, other.document, other.evidence)
        (tmp_path / "b.run/evidence.npz").replace(run / "evidence.npz")
        with pytest.raises(RunError, match=r"evidence\.npz: is of another run"):
            read_result(run)

    def test_a_result_that_can_be_read_only_once(self, run, monkeypatch):
        """The disk fails where its digest is taken: a line that names it."""

        def fails(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(record, "read", lambda *_: kept().document)
        monkeypatch.setattr(Path, "read_bytes", fails)
        with pytest.raises(RunError, match=r"result.json: cannot be read: .*[Pp]ermission denied"):
            read_result(run)

    def test_without_evidence(self, run):
        (run / "evidence.npz").unlink()
        with pytest.raises(RunError, match=r"evidence.npz: cannot be read: No such file"):
            read_result(run)

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda _: None, "no such folder"),
            (lambda path: path.write_text(""), "is no folder"),
            (lambda path: path.mkdir(), "holds no run"),
            (begun, "no result yet"),
        ],
    )
    def test_no_result(self, tmp_path, make, words):
        make(tmp_path / "x.run")
        with pytest.raises(RunError, match=rf"x\.run: .*{words}"):
            read_result(tmp_path / "x.run")


class TestAnswers:
    def test_lost_then_won_then_other(self):
        labels = np.array([0, 0, 0, 0, 0])
        answers = Answers(np.array([1, 1, 0, 0, 0]), np.array([2, 0, 0, 1, 2]), 3)
        assert changed_answers(labels, answers).tolist() == [3, 4, 1, 0]

    def test_from_logits(self):
        one, other = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[::-1]
        answers = Answers.of(one, other, CATEGORICAL)
        assert answers.before.tolist() == [0, 1, 2]
        assert answers.after.tolist() == [2, 1, 0]


class TestThumbnails:
    def test_small_ones_as_they_are(self):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)
        found = thumbnails(ImageSet("x", pixels), np.array([2, 0]))
        assert (found == pixels[[2, 0]]).all()

    def test_large_ones_are_means_of_blocks(self):
        pixels = np.zeros((1, 200, 130, 1), np.uint8)
        pixels[0, :5, :5] = 255
        pixels[0, 5, 5] = 250
        found = thumbnails(ImageSet("x", pixels), np.array([0]))
        assert found.shape == (1, 40, 26, 1)
        assert found[0, :2, :2, 0].tolist() == [[255, 0], [0, 10]]

    def test_thin_ones(self):
        pixels = np.full((1, 200, 2, 1), 7, np.uint8)
        found = thumbnails(ImageSet("x", pixels), np.array([0]))
        assert found.shape == (1, 40, 1, 1)
        assert (found == 7).all()

    @pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 5, 4, 3)])
    def test_float_images_of_both_layouts(self, shape):
        pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        found = thumbnails(ImageSet("x", pixels), np.array([0, 1]))
        assert found.shape == (2, 5, 4, 3)
        assert found.min() == 0
        assert found.max() == 255

    def test_a_float_image_of_one_value(self):
        found = thumbnails(ImageSet("x", np.ones((1, 1, 3, 3), np.float32)), np.array([0]))
        assert (found == 0).all()

    @pytest.mark.parametrize("shape", [(2, 7), (2, 5, 6, 4), (2, 4, 5, 6)])
    def test_what_is_no_picture(self, shape):
        images = ImageSet("x", np.ones(shape, np.float32))
        assert len(thumbnails(images, np.array([0]))) == 0

    def test_none(self):
        images = ImageSet("x", np.zeros((2, 4, 4, 1), np.uint8))
        assert len(thumbnails(images, np.array([], np.int64))) == 0


class TestTried:
    """The size of the plan of every trial, taken or not."""

    LAYERS = tuple(TargetLayer(name, np.ones((2, 4), np.float32)) for name in "ab")

    def plan(self, a, b):
        return BitPlan({"a": a, "b": b}, {"a": 4, "b": 4})

    def trial(self, number, layer, channel, bits, decision, phase=Phase.ACCURACY_INCREASING):
        ranked = Ranked(Semilayer(layer, Sign.NEGATIVE, (channel,), bits), 0.1, 0.1)
        return Trial(number, phase, ranked, SCORE, 9, decision, "")

    def test_of_the_frontier_as_they_say(self):
        trial = Trial(1, Phase.FRONTIER, None, SCORE, None, Decision.REJECTED, "", 0.75)
        start = Point(BitPlan.uniform(self.LAYERS), SCORE, Phase.START)
        assert list(tried(Trajectory(SCORE, (start,), (trial,), ""))) == [0.75]

    def test_of_semilayers(self):
        start = BitPlan.uniform(self.LAYERS)
        one = self.plan((8, 32), (32, 32))
        both = self.plan((8, 32), (4, 32))
        trials = (
            self.trial(1, "a", 0, 8, Decision.KEPT),
            self.trial(2, "b", 0, 8, Decision.POSTPONED),
            self.trial(3, "a", 1, 8, Decision.UNDONE),
            self.trial(4, "b", 1, 8, Decision.UNDONE),
            self.trial(5, "b", 0, 4, Decision.KEPT),
        )
        points = (
            Point(start, SCORE, Phase.START),
            Point(one, SCORE, Phase.ACCURACY_INCREASING, 8, 1),
            Point(both, SCORE, Phase.ACCURACY_INCREASING, 4, 5),
        )
        wanted = [
            one,
            self.plan((8, 32), (8, 32)),
            self.plan((8, 8), (32, 32)),
            self.plan((8, 8), (32, 8)),
            both,
        ]
        found = list(tried(Trajectory(SCORE, points, trials, "")))
        assert found == pytest.approx([plan.compression for plan in wanted])

    def test_branches_of_the_postponing_phase_begin_anew(self):
        start = BitPlan.uniform(self.LAYERS)
        plans = [self.plan((8, 32), (32, 32)), self.plan((4, 32), (32, 32))]
        trials = tuple(
            self.trial(n, "a", 0, b, Decision.QUANTIZED, Phase.POSTPONING)
            for n, b in ((1, 8), (2, 4))
        )
        points = (
            Point(start, SCORE, Phase.START),
            *(Point(p, SCORE, Phase.POSTPONING, 8, n) for n, p in enumerate(plans, 1)),
        )
        found = list(tried(Trajectory(SCORE, points, trials, "")))
        assert found == pytest.approx([plan.compression for plan in plans])
