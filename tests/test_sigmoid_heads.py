"""Models that end in Sigmoids: one is two classes, several are judged per label."""

import json
import shutil
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, run
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_models import images
from sigmoid_nets import logits_of, save_sigmoid_net, sigmoid_net, told_labels

import onnxsemi
from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import load_images
from onnxsemi._errors import DataError, ModelError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._head import Head
from onnxsemi._model.head import find_ends
from onnxsemi._model.reader import read_model
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, mixed_weight
from onnxsemi._run.journal import Journal
from onnxsemi._runtime.sessions import Session
from onnxsemi._sensitivity.delta_loss import exact_delta_loss
from onnxsemi._sensitivity.fast import FastMeasurement

BITS = (8, 4)
STEP = 1e-3  # of the weight change, in float64


@dataclass(frozen=True)
class End:
    """How a model ends, and what is told of it."""

    id: str
    labels: int
    end: str
    output: str
    head: Head
    note: str | None


TWO = "is one Sigmoid: two classes, 0 below one half and 1 above"
FLAT = "k = Constant <value = int64[1] {-1}> ()\n"
ENDS = [
    End("one", 1, "probs = Sigmoid (z)", "[N,1] probs", Head.ONE_SIGMOID, TWO),
    End("unstated", 1, "probs = Sigmoid (z)", "[N,K] probs", Head.ONE_SIGMOID, TWO),
    End("column", 1, f"p = Sigmoid (z)\n{FLAT} probs = Reshape (p, k)", "[N] probs",
        Head.ONE_SIGMOID, TWO),
    End("row", 1, f"{FLAT} r = Reshape (z, k)\n probs = Sigmoid (r)", "[N] probs",
        Head.ONE_SIGMOID, TWO),
    End("five", 5, "probs = Sigmoid (z)", "[N,5] probs", Head.SIGMOIDS,
        "is 5 Sigmoids: judged per label"),
    End("cast", 5, "p = Sigmoid (z)\n probs = Identity (p)", "[N,5] probs", Head.SIGMOIDS,
        "is 5 Sigmoids: judged per label"),
    End("none", 5, "probs = Softmax (z)", "[N,5] probs", Head.SOFTMAX, None),
    End("gate", 5, "p = Sigmoid (z)\n probs = Mul (p, z)", "[N,5] probs", Head.SOFTMAX, None),
]  # fmt: skip


class TestReading:
    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.id)
    def test_the_head_is_found_and_told(self, end, tmp_path):
        model = sigmoid_net(end.labels, end.end, end.output)
        assert find_ends(model, None).head is end.head
        onnx.save(model, tmp_path / "model.onnx")
        classifier = read_model(tmp_path / "model.onnx")
        assert classifier.ends.head is end.head
        said = () if end.note is None else (f"output 'probs' {end.note}",)
        assert classifier.notes == onnxsemi.inspect(tmp_path / "model.onnx").notes == said

    @pytest.mark.parametrize(("labels", "head"), [(1, Head.ONE_SIGMOID), (5, Head.SIGMOIDS)])
    def test_the_output_says_it_where_the_weight_is_computed(self, labels, head):
        """As in files that hold quantized weights: no shape of z is inferred."""
        model = sigmoid_net(labels)
        (weight,) = (t for t in model.graph.initializer if t.name == "scores_w")
        weight.name = "stored"
        size = numpy_helper.from_array(np.int64([labels, 8]), "size")
        model.graph.initializer.append(size)
        model.graph.node.insert(0, helper.make_node("Relu", ["size"], ["hidden"]))
        model.graph.node.insert(1, helper.make_node("Reshape", ["stored", "hidden"], ["scores_w"]))
        assert find_ends(model, None).head is head
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "K"
        assert find_ends(model, None).sigmoids is None

    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.id)
    def test_logits_and_their_answers(self, end):
        model, pixels = sigmoid_net(end.labels, end.end, end.output), images(20, seed=1)
        classifier = read_model(model)
        data = ImageSet("mine", pixels, None)
        found = Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), 1).forward(classifier.proto)
        if end.head is Head.SOFTMAX:
            return
        z = logits_of(model, pixels)
        p = Session(model.SerializeToString()).run({"image": pixels})["probs"].reshape(z.shape)
        assert (found[:, 0] == 0).all() or end.head is Head.SIGMOIDS
        own = found[:, 1:] if end.head is Head.ONE_SIGMOID else found
        assert own == pytest.approx(z, abs=1e-6)
        assert ((own > 0) == (p > 0.5)).all()

    def test_one_value_without_a_sigmoid_gets_the_remedy(self):
        model = sigmoid_net(1, "probs = Identity (z)")
        with pytest.raises(ModelError, match=r"one value an image; .* with a Sigmoid behind it"):
            onnxsemi.evaluate(model, images(10))


def workload_of(model, count=12, seed=4):
    pixels = images(count, seed=seed)
    classifier, labels = read_model(model), told_labels(model, pixels, seed)
    head = classifier.ends.head
    data = ImageSet("noise", pixels, labels).for_head(head)
    return Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), 2)


@pytest.mark.parametrize("labels", [1, 5])
class TestDeltaLoss:
    def test_fast_against_finite_differences_of_the_stated_loss(self, labels):
        """Binary cross-entropy and KL of Bernoulli distributions, of float64 probabilities."""
        workload = workload_of(sigmoid_net(labels))
        names = [layer.name for layer in workload.classifier.layers]
        found = FastMeasurement(workload, names, BITS, 0).measure(Silent(), lambda: None)
        assert not found.missing
        for layer in workload.classifier.layers:
            for bits in BITS:
                first, second = by_differences(workload, layer, bits)
                value = found.kl_increase().column(layer.name, bits)[0]
                assert value == pytest.approx(second, rel=2e-4, abs=1e-9)
                value = found.delta_loss().column(layer.name, bits)[0]
                assert value == pytest.approx(first + second, rel=2e-4, abs=1e-7)

    def test_exact_is_the_change_of_the_stated_loss(self, labels):
        workload = workload_of(sigmoid_net(labels))
        layers = workload.classifier.layers
        names = [layer.name for layer in layers]
        loss, kl = exact_delta_loss(workload, names, BITS, Silent(), Journal(None))
        before = probabilities(workload, layers[0], 0)
        for layer in layers:
            for bits in BITS:
                after = probabilities(workload, layer, 1, bits)
                change = entropy(after, workload) - entropy(before, workload)
                assert loss.column(layer.name, bits)[0] == pytest.approx(change, abs=2e-6)
                expected = divergence(before, after)
                assert kl.column(layer.name, bits)[0] == pytest.approx(expected, abs=2e-6)


def entropy(p, workload):
    y = workload.labels.reshape(len(p), -1)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1).mean()


def divergence(p, q):
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return each.sum(axis=1).mean()


def by_differences(workload, layer, bits):
    """First and second term of the first channel's Δloss, by central differences."""
    low, middle, high = (probabilities(workload, layer, step, bits) for step in (-STEP, 0, STEP))
    first = (entropy(high, workload) - entropy(low, workload)) / (2 * STEP)
    second = (divergence(middle, low) + divergence(middle, high)) / (2 * STEP**2)
    return first, second


def probabilities(workload, layer, step, bits=8):
    """float64[N, L] of the reference evaluator, a step along the first channel's rounding."""
    classifier, model = workload.classifier, onnx.ModelProto()
    model.CopyFrom(classifier.proto)
    site = classifier.site(layer.name)
    chosen = [bits] + [32] * (layer.channels - 1)
    change = mixed_weight(layer, chosen, workload.rounding).astype(np.float64) - layer.weight
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            if tensor.name == site.initializer:
                values = values + step * site.layout.to_stored(change)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    pixels = workload.images.batch(0, len(workload.images)).astype(np.float64)
    found = ReferenceEvaluator(model).run(["probs"], {"image": pixels})[0]
    return np.asarray(found).reshape(len(pixels), -1)


@pytest.fixture(scope="module", params=[1, 3])
def made(request, tmp_path_factory):
    """A model of so many Sigmoids, its images, and a compression by the command line."""
    folder = tmp_path_factory.mktemp("sigmoid")
    save_sigmoid_net(folder, request.param)
    return folder, request.param, compressed(folder, "small")


def compressed(folder, name, data="search.npz", test="report.npz", *more):
    result = run(
        *("compress", folder / "model.onnx", "--data", folder / data),
        *("--test-data", folder / test, "--out", folder / f"{name}.onnx", "--allow-loss"),
        *("--max-drop", 20, "--bits", "8,4,2", "--report", folder / f"{name}.html"),
        *("--json", *more),
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def words(labels):
    """What right answers, and the same answers, are called."""
    return ("top-1", "same answer as") if labels == 1 else ("all labels right", "every label as")


def own_right(path, folder, labels):
    """Right answers of a file on the test images, from its probabilities alone."""
    with np.load(folder / "report.npz") as arrays:
        found = Session(path.read_bytes()).run({"image": arrays["x"]})["probs"]
        assert found.shape == (len(arrays["x"]), labels)  # the output is as it was
        return int(((found > 0.5) == arrays["y"]).all(axis=1).sum())


@pytest.mark.slow
class TestCommands:
    def test_compress_counts_right_answers(self, made):
        folder, labels, document = made
        report = document["report"]
        for name, path in (("correct_before", "model.onnx"), ("correct_after", "small.onnx")):
            assert abs(report[name] - own_right(folder / path, folder, labels)) <= 1  # on the edge
        assert 0.6 < report["correct_before"] / report["images"] < 1
        assert document["head"] == ("one-sigmoid" if labels == 1 else "sigmoids")
        right, same = words(labels)
        assert f"{right} " in document["verdict"]["summary"]
        assert report["summary"][0].startswith(f"change of {right}:")
        assert report["summary"][-1].startswith(f"{same} the float model on ")
        assert document["plan"]["compression"] > 0.5

    def test_the_file_keeps_its_end(self, made):
        folder, labels, _ = made
        model = onnx.load(folder / "small.onnx")
        (output,) = model.graph.output
        assert [dim.dim_value for dim in output.type.tensor_type.shape.dim][1] == labels
        assert model.graph.node[-1].op_type == "Sigmoid"
        assert not {"Concat", "Pad"} & {node.op_type for node in model.graph.node[-3:]}

    def test_apply_gives_the_same_bytes(self, made):
        folder, labels, document = made
        for given in (
            (folder / "small.plan.json", folder / "model.onnx"),
            (folder / "small.run", "--at", f"{100 * document['plan']['compression']}%"),
        ):
            data = ("--calibration-data", folder / "search.npz")
            more = ("--data", folder / "report.npz", "--allow-loss", "--json")
            result = run("apply", *given, *data, *more, "--out", folder / "again.onnx")
            assert result.exit_code == 0, result.output
            found = json.loads(result.stdout)["report"]
            assert found["correct_after"] == document["report"]["correct_after"]
            assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()
        assert words(labels)[0] in found["summary"][0]

    def test_evaluate(self, made):
        folder, labels, document = made
        given = ("evaluate", folder / "small.onnx", "--reference", folder / "model.onnx")
        result = run(*given, "--data", folder / "report.npz")
        assert result.exit_code == 0, result.output
        report = document["report"]
        share = f"{report['correct_after'] / report['images']:.2%}"
        right = words(labels)[0]
        assert f"{right} accuracy " in result.stdout if labels == 1 else right in result.stdout
        assert share in result.stdout
        found = onnxsemi.evaluate(
            folder / "small.onnx", folder / "report.npz", reference=folder / "model.onnx"
        )
        assert found.comparison.kl == report["kl_nats"]

    def test_check_and_inspect(self, made):
        folder, labels, _ = made
        said = TWO if labels == 1 else "is 3 Sigmoids: judged per label"
        scored = "2 classes" if labels == 1 else "3 labels"
        data = ("--data", folder / "search.npz", "--test-data", folder / "report.npz")
        found = run("check", folder / "model.onnx", *data)
        for text in (said, scored, f"{words(labels)[0]} "):
            assert text in " ".join(found.stdout.split())
        assert said in " ".join(run("inspect", folder / "model.onnx").stdout.split())

    def test_pareto_and_page(self, made):
        folder, labels, _ = made
        right = words(labels)[0]
        said = run("pareto", folder / "small.run")
        assert f"Change of {right} (" in " ".join(said.stdout.split())
        page = (folder / "small.html").read_text(encoding="utf-8")
        assert (f"{right} accuracy changed" if labels == 1 else f"{right} changed") in page
        assert ('id="classes"' in page) == (labels == 1)
        assert "Changed answers" in page
        two, other = folder / "two.html", shutil.copytree(folder / "small.run", folder / "copy.run")
        shown = run("report", folder / "small.run", other, "--out", two)
        assert shown.exit_code == 0, shown.output
        assert f"test images, {right}" in two.read_text(encoding="utf-8")

    def test_without_labels_every_label_agrees(self, made):
        folder, labels, _ = made
        for name in ("search", "report"):
            with np.load(folder / f"{name}.npz") as arrays:
                np.savez(folder / f"{name}_plain.npz", x=arrays["x"])
        found = compressed(folder, "plain", "search_plain.npz", "report_plain.npz")
        with np.load(folder / "report.npz") as arrays:
            answers = [
                Session((folder / path).read_bytes()).run({"image": arrays["x"]})["probs"] > 0.5
                for path in ("model.onnx", "plain.onnx")
            ]
        same = int((answers[0] == answers[1]).all(axis=1).sum())
        assert abs(found["report"]["same"] - same) <= 1  # an answer on the edge
        agreed = "the float model's answer on" if labels == 1 else "every label as the float model"
        assert agreed in found["verdict"]["summary"]

    def test_the_papers_method(self, made):
        folder, labels, _ = made
        more = ("--method", "semilayer", "--tolerance", "5")
        found = compressed(folder, "paper", "search.npz", "report.npz", *more)
        right = own_right(folder / "paper.onnx", folder, labels)
        assert abs(found["report"]["correct_after"] - right) <= 1


def test_integer_kernels(tmp_path):
    save_sigmoid_net(tmp_path, 3, (60, 60))
    document = compressed(tmp_path, "int8", "search.npz", "report.npz", "--profile", "int8")
    assert document["kernels"]["integer"]
    assert "all labels right" in document["verdict"]["summary"]


def test_a_metric_judges_and_the_rest_is_per_label(tmp_path):
    """KL and loss are of the labels' probabilities; what a metric takes is as it is given."""
    model = save_sigmoid_net(tmp_path, 3, (60, 60))
    seen = []

    def share(logits, labels):
        seen.append((logits.shape[1], labels.shape[1]))
        return ((logits > 0) == labels).mean(axis=1)

    other = sigmoid_net(3, seed=1)
    found = onnxsemi.evaluate(other, tmp_path / "report.npz", reference=model, metric=share)
    pixels = images(60, seed=2)
    p, q = (1 / (1 + np.exp(-logits_of(net, pixels))) for net in (model, other))
    assert found.comparison.kl == pytest.approx(divergence(p, q), rel=1e-5)
    assert set(seen) == {(3, 3)}


ONE, SEVERAL = sigmoid_net(1), sigmoid_net(3)
PIXELS = images(30, seed=5)


class TestLabels:
    @pytest.mark.parametrize(
        "form",
        [np.int64, np.uint8, bool, np.float32, lambda y: y[:, None], lambda y: y[:, None] > 0],
    )
    def test_of_one_sigmoid(self, form):
        labels = told_labels(ONE, PIXELS, 1)[:, 0]
        given = form(labels) if not isinstance(form, type) else labels.astype(form)
        found = onnxsemi.evaluate(ONE, (PIXELS, given))
        assert found.correct == int(((logits_of(ONE, PIXELS)[:, 0] > 0) == labels).sum())

    @pytest.mark.parametrize("kind", [np.int64, np.uint8, bool, np.float32])
    def test_of_several(self, kind):
        labels = told_labels(SEVERAL, PIXELS, 1)
        found = onnxsemi.evaluate(SEVERAL, (PIXELS, labels.astype(kind)))
        right = ((logits_of(SEVERAL, PIXELS) > 0) == labels).all(axis=1)
        assert found.correct == int(right.sum())

    @pytest.mark.parametrize(
        ("model", "labels", "message"),
        [
            (ONE, np.arange(30) % 3, "label 2 of image 2 is no class of the model"),
            (ONE, np.linspace(0, 1, 30), "'y' is float64; it must be whole numbers"),
            (ONE, np.eye(2)[np.arange(30) % 2], r"one-hot, np.argmax\(y, axis=1\)"),
            (
                SEVERAL,
                np.arange(30) % 3,
                r"'y' is int64 of shape \[30\], and the model, .* per label",
            ),
            (SEVERAL, np.zeros((30, 3, 1)), r"shape \[30, 3, 1\]"),
            (SEVERAL, np.full((30, 3), 0.5), "the labels of image 0 are not all 0 or 1"),
            (SEVERAL, np.zeros((30, 4), int), r"the model tells 3 labels: \[30, 3\] is needed"),
        ],
    )
    def test_others_are_refused_in_one_line(self, model, labels, message, tmp_path):
        onnx.save(model, tmp_path / "model.onnx")
        np.savez(tmp_path / "data.npz", x=PIXELS, y=labels)
        result = run("evaluate", tmp_path / "model.onnx", "--data", tmp_path / "data.npz")
        assert_one_line(result)
        with pytest.raises(DataError, match=message):
            onnxsemi.evaluate(model, (PIXELS, labels))

    def test_samples_keep_the_shares_of_label_patterns(self):
        labels = np.repeat([[0, 0], [0, 1], [1, 1]], [60, 30, 10], axis=0)
        data = ImageSet("mine", images(100), labels).for_head(Head.SIGMOIDS)
        assert np.bincount(data.strata).tolist() == [60, 30, 10]
        assert data.select(np.arange(95, 100)).labels.tolist() == [[1, 1]] * 5

    def test_labels_decide_what_a_run_is_made_from(self):
        pixels = images(4)
        prints = {
            ImageSet("mine", pixels, np.array(y)).for_head(head).fingerprint()
            for y, head in (
                ([0, 1, 1, 0], Head.ONE_SIGMOID),
                ([[0, 1], [1, 0], [0, 0], [0, 0]], Head.SIGMOIDS),
                ([[0, 1], [1, 0], [0, 0], [0, 1]], Head.SIGMOIDS),
                ([[0], [1], [1], [0]], Head.SIGMOIDS),
            )
        }
        assert len(prints) == 4

    def test_labels_no_better_than_guessing_are_a_warning(self):
        pixels = images(60, seed=6)
        labels = np.random.default_rng(0).permutation(told_labels(SEVERAL, pixels, 1))
        found = onnxsemi.evaluate(SEVERAL, (pixels, labels))
        assert any("of the labels, no better than by guessing" in said for said in found.warnings)
        good = onnxsemi.evaluate(SEVERAL, (pixels, told_labels(SEVERAL, pixels, 1)))
        assert good.warnings == ()

    def test_the_same_labels_for_nearly_all_images_are_a_warning(self):
        found = onnxsemi.evaluate(SEVERAL, np.repeat(PIXELS[:1], 60, axis=0) + images(60) / 1e4)
        (said,) = found.warnings
        assert "answers 60 of 60 images with the same labels" in said

    def test_loading_asks_for_the_head(self, tmp_path):
        np.savez(tmp_path / "data.npz", x=PIXELS, y=np.ones((30, 3)))
        shape = (None, 3, 8, 8)
        found = load_images(tmp_path / "data.npz", "image", shape, head=Head.SIGMOIDS)
        assert found.labels.dtype == np.int64
        with pytest.raises(DataError, match="one number an image is needed"):
            load_images(tmp_path / "data.npz", "image", shape)


def test_models_of_two_heads_are_not_compared():
    softmax = sigmoid_net(3, "probs = Softmax (z)")
    with pytest.raises(ModelError, match="only one ends in a Sigmoid"):
        onnxsemi.evaluate(SEVERAL, images(30), reference=softmax)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("case", ["c03_one_logit", "c19_multilabel"])
def test_shared_cases(case, shared, tmp_path):
    folder = shared / "cases" / case
    found = onnxsemi.compress(
        folder / "model.onnx",
        folder / "search.npz",
        test_data=folder / "report.npz",
        output=tmp_path / "small.onnx",
        settings=onnxsemi.Settings(allow_loss=True),
    )
    assert found.report.labelled == (case == "c03_one_logit")
    assert found.report.agreement > 0.5
    before, after = (onnx.load(path) for path in (folder / "model.onnx", tmp_path / "small.onnx"))
    assert before.graph.output == after.graph.output
    assert (
        onnxsemi.evaluate(
            tmp_path / "small.onnx", folder / "report.npz", reference=folder / "model.onnx"
        ).comparison.same
        == found.report.same
    )
