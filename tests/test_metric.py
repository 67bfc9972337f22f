"""A metric instead of top-1: what it may be, and a compression that is judged by it."""

import functools
import json
import shutil

import numpy as np
import onnx
import pytest
import run_files
from onnx import helper
from onnx.numpy_helper import from_array as to_tensor
from onnx.numpy_helper import to_array
from onnx_models import Net
from residual_net import residual_net
from rich.console import Console

import onnxsemi
from onnxsemi._data.images import ImageSet
from onnxsemi._errors import DataError, SettingsError
from onnxsemi._report.conversion import compress_document, evaluate_document, pareto_document
from onnxsemi._report.document import to_json
from onnxsemi._report.page import render
from onnxsemi._report.page.run import Run
from onnxsemi._report.pareto import pareto_table
from onnxsemi._report.tables import apply_table, compress_table, evaluate_table
from onnxsemi._runtime.sessions import Session
from onnxsemi._search.verdict import Outcome
from onnxsemi._stats.metric import Judge, metric_name

pytestmark = pytest.mark.slow

SEARCH, REPORT = 200, 60


def labels_right(logits, labels):
    """Share of an image's labels that are told rightly."""
    return ((logits > 0) == labels).mean(axis=1)


def top1(logits, labels):
    return logits.argmax(axis=1) == labels


def top5(logits, labels):
    return (np.argsort(-logits, axis=1, kind="stable")[:, :5] == labels[:, None]).any(axis=1)


def of_all(logits, labels):
    return labels_right(logits, labels).mean()


def of_labels(logits, labels):
    return (logits > 0) == labels


def of_fewer(logits, labels):
    return labels_right(logits, labels)[1:]


def in_words(_logits, labels):
    return np.array(["good"] * len(labels))


def with_nan(_logits, labels):
    return np.where(np.arange(len(labels)) == 3, np.nan, 1)


def that_fails(_logits, labels):
    return labels["class"]


def that_sorts(logits, _labels):
    logits.sort(axis=1)
    return logits[:, 0]


def that_inverts(_logits, labels):
    labels[:] = 1 - labels
    return labels[:, 0]


WRONG = [
    (of_all, TypeError, "returned one float64 for them all"),
    (of_labels, TypeError, r"returned shape \[20, 5\] .* one number an image, shape \[20\]"),
    (of_fewer, TypeError, r"returned shape \[19\]"),
    (in_words, TypeError, "<U4"),
    (with_nan, ValueError, "returned nan for image 3"),
    (that_fails, ValueError, "raised IndexError"),
    (that_sorts, ValueError, "read-only"),
    (that_inverts, ValueError, "read-only"),
]


@pytest.mark.parametrize(("metric", "kind", "words"), WRONG, ids=lambda item: str(item)[10:20])
def test_wrong_metric(metric, kind, words):
    logits = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    with pytest.raises(kind, match=f"metric {metric.__name__} .*{words}"):
        Judge(metric, np.zeros((20, 5)))(logits)


class Scorer:
    def __call__(self, logits, labels):
        return top1(logits, labels)


def test_names():
    metrics = (top5, functools.partial(top5), Scorer(), lambda logits, _labels: logits)
    assert [metric_name(one) for one in metrics] == ["top5", "top5", "Scorer", "<lambda>"]


def save_net(folder):
    """The residual net with a Sigmoid at its end, and labels of which it tells 9 of 10."""
    model = residual_net()
    *_, weight, bias = model.graph.initializer
    images = np.random.default_rng(0).normal(size=(500, 3, 8, 8)).astype(np.float32)
    z = Session(model.SerializeToString()).run({"image": images})["scores"]
    span = np.float32(z.std())  # each label as often as not, and no probability that is 0 or 1
    bias.CopyFrom(to_tensor((to_array(bias) - np.median(z, axis=0)) / span, "fc_b"))
    weight.CopyFrom(to_tensor(to_array(weight) / span, "fc_w"))
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("Sigmoid", ["z"], ["scores"], "sigmoid"))
    onnx.save(model, folder / "model.onnx")
    for name, count, seed in (("search", SEARCH, 1), ("report", REPORT, 2)):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(count, 3, 8, 8)).astype(np.float32)
        y = (logits_of(folder / "model.onnx", x) > 0) ^ (rng.random((count, 5)) < 0.1)
        np.savez(folder / f"{name}.npz", x=x, y=y.astype(np.float32))


def logits_of(path, images):
    """From the probabilities that a file gives in a plain session."""
    p = Session(path.read_bytes()).run({"image": images})["scores"].astype(np.float64)
    return np.log(p) - np.log1p(-p)


def settings(run=None, *, resume=False, profile="qdq", **search):
    """Quick ones; a drop that few images can show."""
    options = onnxsemi.RunOptions(folder=run, resume=resume)
    asked = onnxsemi.SearchSettings(**({"max_drop": 5, "tries": 1} | search))
    return onnxsemi.Settings(search=asked, rounding_samples=40, profile=profile, run=options)


def compress(folder, out, metric=labels_right, **options):
    return onnxsemi.compress(
        folder / "model.onnx",
        folder / "search.npz",
        test_data=folder / "report.npz",
        output=folder / f"{out}.onnx",
        metric=metric,
        settings=settings(**options),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metric")
    save_net(folder)
    return folder, compress(folder, "small", run=folder / "small.run")


def printed(table, width=80):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return " ".join(capture.get().split())


class TestCompress:
    def test_is_judged_by_means(self, made):
        """The written files, run by themselves, have these means."""
        folder, result = made
        with np.load(folder / "report.npz") as arrays:
            x, y = arrays["x"], arrays["y"]
        found = result.report.metric
        for path, mean in (("model.onnx", found.before), ("small.onnx", found.after)):
            own = labels_right(logits_of(folder / path, x), y)
            assert mean == pytest.approx(own.mean(), abs=1 / (5 * REPORT))  # one label on the edge
        assert found.name == "labels_right"
        assert 0.8 < found.before < 1
        assert result.report.top1 is None
        assert result.search.total == SEARCH
        assert result.verdict.interval == found.interval
        assert result.verdict.outcome in (Outcome.HOLDS, Outcome.UNPROVEN)
        assert result.plan.compression > 0.5

    def test_every_trial_has_its_mean(self, made):
        _, result = made
        first = result.trajectory.baseline.accuracy
        for trial in result.trajectory.trials:
            assert trial.paired.before == pytest.approx(first)
            assert trial.score.accuracy == pytest.approx(trial.paired.after)

    def test_is_shown(self, made):
        folder, result = made
        document = json.loads(to_json(compress_document(result)))
        report = document["report"]
        assert report["metric"] == document["search"]["metric"] == "labels_right"
        assert report["change"] == report["mean_after"] - report["mean_before"]
        assert report["interval_95"] == list(result.report.metric.interval)
        assert document["answers_compared_with"] == "labels, by labels_right"
        assert document["baseline"]["mean"] == pytest.approx(document["search"]["mean_before"])
        before, after = (f"{report[name]:.4f}" for name in ("mean_before", "mean_after"))
        assert f"mean of labels_right {before} -> {after} on 60 test images" in printed(
            compress_table(result, verbose=True)
        )
        drawn = render(Run.read(folder / "small.run"))
        assert f"the mean of labels_right went from {before} to {after}" in drawn
        assert "top-1" not in drawn

    def test_its_points_are_kept(self, made):
        folder, result = made
        kept = onnxsemi.pareto(folder / "small.run")
        assert kept.metric == "labels_right"
        assert kept.chosen.paired == result.search
        assert kept.change(kept.chosen) == pytest.approx(result.search.change)
        assert "Change of the mean of labels_right" in printed(
            pareto_table(kept, folder, every=True)
        )
        (chosen,) = [p for p in pareto_document(kept, folder).points if p.chosen]
        assert chosen.mean == pytest.approx(result.search.after)

    def test_again_gives_the_same_bytes(self, made):
        folder, _ = made
        compress(folder, "again")
        assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()

    def test_apply(self, made):
        folder, result = made
        out = folder / "applied.onnx"
        found = onnxsemi.apply(folder / "small.run", output=out, metric=labels_right)
        assert found.report.metric == result.report.metric
        assert found.verdict.looks == 1
        assert "mean of labels_right" in printed(apply_table(found))
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()

    def test_apply_without_it_asks_of_agreement(self, made):
        folder, result = made
        found = onnxsemi.apply(
            folder / "small.run",
            output=folder / "alone.onnx",
            settings=onnxsemi.ApplySettings(allow_loss=True),
        )
        assert not found.has_labels
        assert found.report.same == result.report.same
        assert "every label as the float model" in printed(apply_table(found))

    def test_evaluate(self, made):
        folder, result = made
        found = onnxsemi.evaluate(
            folder / "small.onnx",
            folder / "report.npz",
            reference=folder / "model.onnx",
            metric=labels_right,
        )
        assert found.comparison.metric == result.report.metric
        assert (found.correct, found.loss) == (None, None)
        assert found.mean == result.report.metric.after
        assert evaluate_document(found).mean == found.mean
        assert f"mean of labels_right {found.mean:.4f}" in printed(evaluate_table(found))

    def test_with_activations_in_uint8(self, made):
        folder, _ = made
        result = compress(folder, "int8", run=folder / "int8.run", profile="int8")
        kept = onnxsemi.pareto(folder / "int8.run")
        assert kept.as_written == result.search
        assert kept.as_written != kept.chosen.paired
        said = printed(compress_table(result))
        assert "with float32 ones that of the calibration images is" in said

    def test_where_nothing_holds(self, made):
        folder, _ = made
        asked = {"guarantee": "interval", "max_drop": 3, "bits": (1,)}
        with pytest.raises(onnxsemi.NothingHoldsError) as caught:
            compress(folder, "none", run=folder / "none.run", **asked)
        assert "(mean of labels_right 0." in str(caught.value)
        asked["max_drop"] = caught.value.max_drop
        found = compress(folder, "none", run=folder / "none.run", resume=True, **asked)
        assert found.search == caught.value.best.paired

    def test_check(self, made):
        folder, result = made
        found = onnxsemi.check(
            folder / "model.onnx",
            folder / "search.npz",
            test_data=folder / "report.npz",
            metric=labels_right,
            settings=settings(),
        )
        assert found.mean == pytest.approx(result.search.before)


class TestResume:
    def test_measures_nothing_again(self, made):
        folder, first = made
        journal = folder / "small.run" / "journal.jsonl"
        lines, whole = journal.read_bytes(), (folder / "small.onnx").read_bytes()
        again = compress(folder, "small", run=folder / "small.run", resume=True)
        assert (journal.read_bytes(), (folder / "small.onnx").read_bytes()) == (lines, whole)
        assert again.report == first.report

    def test_another_metric_measures_plans_anew(self, made, tmp_path):
        """One of the same name, too; what is no judgement stays measured."""
        folder, _ = made
        run = shutil.copytree(folder / "small.run", tmp_path / "copy.run")
        head, journal = run / "run.json", run / "journal.jsonl"
        before, known = run_files.content(head)["judged"]["metric"], kinds(journal)

        def labels_right(logits, labels):
            return ((logits > 0) == labels).all(axis=1)

        fresh = compress(folder, "fresh", labels_right)
        found = compress(folder, "other", labels_right, run=run, resume=True)
        assert run_files.content(head)["judged"]["metric"] != before
        assert found.report == fresh.report
        assert (folder / "other.onnx").read_bytes() == (folder / "fresh.onnx").read_bytes()
        now = kinds(journal)
        assert now.pop("Check") > known.pop("Check")
        assert now == known


def kinds(journal):
    asked = [kind for kind, _ in run_files.asked(journal.parent)]
    return {kind: asked.count(kind) for kind in asked}


class TestRefusals:
    def test_semilayer(self, made):
        with pytest.raises(SettingsError, match="semilayer goes by counts"):
            compress(made[0], "no", method="semilayer")

    def test_no_labels(self, made):
        folder, _ = made
        with np.load(folder / "report.npz") as arrays:
            images = ImageSet("mine", arrays["x"])
        with pytest.raises(DataError, match="mine: has no labels, and a metric compares"):
            onnxsemi.evaluate(folder / "model.onnx", images, metric=labels_right)

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            (np.array([[1.0], [np.nan], [0.0]]), "label of image 1 holds NaN"),
            (np.array(["a", "b", "c"]), "it must be numbers"),
        ],
        ids=["nan", "words"],
    )
    def test_labels(self, labels, words):
        images = ImageSet("mine", np.zeros((3, 3, 8, 8), np.float32), labels)
        with pytest.raises(DataError, match=words):
            onnxsemi.load_images(images, "image", (None, 3, 8, 8), for_metric=True)

    def test_a_run_without_one(self, made, tmp_path):
        plan = made[0] / "small.plan.json"
        with pytest.raises(SettingsError, match="metric: needs data"):
            onnxsemi.apply(plan, made[0] / "model.onnx", output=tmp_path / "a.onnx", metric=top1)

    def test_wrong_on_report_images_before_the_search(self, made):
        def short(_logits, labels):
            return labels[:, 0] if len(labels) != REPORT else 0.5

        with pytest.raises(TypeError, match="metric short returned"):
            compress(made[0], "no", short)


def test_top5_of_twenty_classes(tmp_path):
    """As the built-in comparison has it, of two nets that differ."""
    body = (
        "c = Conv <pads = [1,1,1,1], strides = [4,4]> (image, c_w) r = Relu (c) "
        "f = Flatten (r) scores = Gemm <transB = 1> (f, fc_w)"
    )
    net = Net(body, {"c_w": (16, 3, 3, 3), "fc_w": (20, 64)}, scores="float[N,20] scores")
    x = np.random.default_rng(0).normal(size=(150, 3, 8, 8)).astype(np.float32)
    onnx.save(net.model(), tmp_path / "one.onnx")
    other = net.model()
    weight = other.graph.initializer[1]
    noise = np.random.default_rng(1).normal(0, 0.1, (20, 64)).astype(np.float32)
    weight.CopyFrom(to_tensor(to_array(weight) + noise, "fc_w"))
    onnx.save(other, tmp_path / "two.onnx")
    answers = Session((tmp_path / "one.onnx").read_bytes()).run({"image": x})["scores"].argmax(1)
    y = np.where(np.arange(150) % 3, answers, (answers + 1) % 20)
    forced = onnxsemi.EvaluateSettings(force=True)
    files = {"reference": tmp_path / "one.onnx", "settings": forced}
    known = onnxsemi.evaluate(tmp_path / "two.onnx", ImageSet("x", x, y), **files).comparison
    for metric, paired in ((top1, known.top1), (top5, known.top5)):
        found = onnxsemi.evaluate(
            tmp_path / "two.onnx", ImageSet("x", x, y), **files, metric=metric
        ).comparison.metric
        assert (found.broken, found.fixed) == (paired.broken, paired.fixed)
        assert (found.before, found.after) == (paired.before / 150, paired.after / 150)
    assert known.top1.broken > 0
