"""Δloss and KL from backward passes, against the definition by finite differences, and exact."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from emitting import Shifted
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_models import ATAN, HEAD, NETS, SAME, STEM, STEM_SHAPES, TIED, Net, conv, images

from onnxsemi._arrays import Float32Array
from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import DataOptions, load_images
from onnxsemi._evaluation import workload as workload_module
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.bias_input import give_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._plan.layers import Semilayer, Sign, TargetLayer
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._run.journal import Journal
from onnxsemi._run.store import NO_RUN
from onnxsemi._runtime.runner import Runner
from onnxsemi._sensitivity import backward as backward_module
from onnxsemi._sensitivity import fast as fast_module
from onnxsemi._sensitivity.fast import FOLDS, FastMeasurement, FastTables
from onnxsemi._sensitivity.parts import parts_of
from onnxsemi._sensitivity.semilayer_kl import exact_kl
from onnxsemi._sensitivity.variants import Variant, measure_variants

pytestmark = pytest.mark.slow

BITS = (8, 4, 2)
STEP = 1e-6  # of the weight change, in float64
MANY = Net(
    STEM + conv("c1", "a", SAME) + "last = Relu (c1)\n" + HEAD,
    {**STEM_SHAPES, "c1_w": (6, 6, 3, 3), "scores_w": (20, 6), "scores_b": (20,)},
    scores="float[N,20] scores",
)
"""More classes than the Fisher matrix is exact for."""


def read(net: Net, path: Path) -> Classifier:
    onnx.save(net.model(), path)
    return read_model(path, ReadOptions(targets=TargetPolicy.ALL))


def workload_of(classifier: Classifier, count: int, threads: int = 2, classes: int = 5) -> Workload:
    labels = np.random.default_rng(3).integers(0, classes, count)
    data = ImageSet("noise", images(count, seed=4), labels)
    return Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), threads)


def tables(workload: Workload, layers: list[str] | None = None, seed: int = 0) -> FastTables:
    names = layers or [layer.name for layer in workload.classifier.layers]
    measurement = FastMeasurement(workload, names, BITS, seed, products=True)
    return measurement.measure(Silent(), lambda: None)


def content(found: FastTables) -> list[bytes]:
    return [a.tobytes() for moments in found.moments.values() for a in moments.arrays.values()]


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    folder = tmp_path_factory.mktemp("fast")
    nets = {**NETS, "tied": TIED, "atan": ATAN, "many": MANY}
    return {name: read(net, folder / f"{name}.onnx") for name, net in nets.items()}


class TestDefinition:
    """g . delta and f . delta from central differences of float64 logits along a weight change."""

    @pytest.mark.parametrize(
        "name",
        [
            *("identity", "projection", "bottleneck", "separable", "fully-convolutional"),
            *("logits-of-convolution", "matmul", "transposed", "image-crosses", "tied"),
        ],
    )
    def test_first_and_second_term(self, classifiers, name):
        workload = workload_of(classifiers[name], 6)
        found = tables(workload)
        assert not found.missing
        table = found.delta_loss()
        for site in workload.classifier.sites:
            layer = site.layer
            for bits in (8, 2):
                channel = layer.channels // 2
                first, second = by_differences(workload, layer.name, (channel,), bits)
                value = table.column(layer.name, bits)[channel]
                assert value == pytest.approx(first + second, rel=2e-4, abs=1e-7)
                alone = Semilayer(layer.name, Sign.POSITIVE, (channel,), bits)
                assert found.kl(alone) == pytest.approx(second, rel=2e-4, abs=1e-9)

    @pytest.mark.parametrize(
        "name", ["identity", "separable", "logits-of-convolution", "matmul", "transposed", "tied"]
    )
    def test_shifts_of_biases_count(self, classifiers, name):
        workload = workload_of(classifiers[name], 6)
        workload = replace(workload, rounding=Shifted(workload.classifier))
        found = tables(workload)
        table = found.delta_loss()
        for layer in workload.classifier.layers:
            for bits in (8, 2):
                channel = layer.channels // 2
                first, second = by_differences(workload, layer.name, (channel,), bits)
                value = table.column(layer.name, bits)[channel]
                assert value == pytest.approx(first + second, rel=2e-4, abs=1e-6)

    def test_a_shift_behind_a_matmul_is_that_of_a_gemm(self, classifiers, tmp_path):
        """Which takes it as its bias; ``beta`` does not scale it."""

        class Ones(Nearest):
            def bias_shift(self, layer: TargetLayer, bits: int) -> Float32Array:
                return np.full(layer.channels, 1 / bits, np.float32)

        model = onnx.ModelProto()
        model.CopyFrom(classifiers["matmul"].proto)
        (node,) = (n for n in model.graph.node if n.op_type == "MatMul")
        node.op_type = "Gemm"
        node.attribute.append(helper.make_attribute("beta", 0.5))
        onnx.save(model, tmp_path / "gemm.onnx")
        options = ReadOptions(targets=TargetPolicy.ALL)
        gemm = read_model(tmp_path / "gemm.onnx", options)
        found = [
            tables(replace(workload_of(classifier, 6), rounding=rounding), [node.name])
            for classifier in (classifiers["matmul"], gemm)
            for rounding in (Ones(Scheme.ASYMMETRIC), Nearest(Scheme.ASYMMETRIC))
        ]
        first = [one.moments[node.name].first for one in found]
        assert first[0] == pytest.approx(first[2], rel=1e-4, abs=1e-6)
        assert first[1] == pytest.approx(first[3], rel=1e-4, abs=1e-6)
        assert np.abs(first[0] - first[1]).max() > 1e-3

    @pytest.mark.parametrize("name", ["projection", "separable", "matmul", "tied"])
    def test_kl_of_several_channels_has_their_cross_terms(self, classifiers, name):
        workload = workload_of(classifiers[name], 6)
        found = tables(workload)
        crossing = 0.0
        for site in workload.classifier.sites:
            layer = site.layer
            channels = tuple(range(0, layer.channels, 2))
            _, second = by_differences(workload, layer.name, channels, 4)
            together = found.kl(Semilayer(layer.name, Sign.NEGATIVE, channels, 4))
            assert together == pytest.approx(second, rel=2e-4)
            alone = [found.kl(Semilayer(layer.name, Sign.NEGATIVE, (c,), 4)) for c in channels]
            crossing += abs(together - sum(alone)) / together
        assert crossing > 0.1  # it would not be the same without them


class TestAgainstExact:
    @pytest.mark.parametrize("name", [*NETS, "tied"])
    def test_small_changes_agree(self, classifiers, name):
        """At 8 bits what the Taylor expansion leaves out is small."""
        workload = workload_of(classifiers[name], 16)
        found = tables(workload)
        table = found.delta_loss()
        fast, exact = [], []
        for site in workload.classifier.sites:
            layer = site.layer
            variants = [Variant((channel,), 8) for channel in range(layer.channels)]
            exact.append(measure_variants(workload, site, variants, lambda _n: None).delta_loss)
            fast.append(table.column(layer.name, 8))
        one, other = np.concatenate(fast), np.concatenate(exact)
        assert np.corrcoef(one, other)[0, 1] > 0.995
        large = np.abs(other) > 1e-6  # float32 noise of a difference of losses
        assert np.mean(np.sign(one[large]) == np.sign(other[large])) >= 0.95

    @pytest.mark.parametrize("name", ["projection", "bottleneck", "tied", "matmul"])
    def test_kl_of_semilayers(self, classifiers, name):
        workload = workload_of(classifiers[name], 24)
        found = tables(workload)
        semilayers = [
            Semilayer(layer.name, Sign.POSITIVE, tuple(range(half, layer.channels, 2)), bits)
            for layer in workload.classifier.layers
            for half in (0, 1)
            for bits in BITS
        ]
        exact = exact_kl(workload, semilayers, Silent(), Journal())
        fast = np.array([found.kl(semilayer) for semilayer in semilayers])
        at_eight = np.array([semilayer.bits == 8 for semilayer in semilayers])
        assert fast[at_eight] == pytest.approx(exact[at_eight], rel=0.1, abs=1e-6)
        assert np.corrcoef(np.argsort(np.argsort(fast)), np.argsort(np.argsort(exact)))[0, 1] > 0.9

    @pytest.mark.shared
    def test_signs_on_a_trained_model(self, shared):
        classifier = read_model(
            shared / "models/resnet20_cifar10.onnx", ReadOptions(targets="hidden")
        )
        image = classifier.ends.image
        options = DataOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        data = load_images(shared / "data/cifar10_search.npz", image.name, image.shape, options)
        workload = Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), 2).first(24)
        sites = classifier.sites[::6]
        table = FastMeasurement(workload, [s.layer.name for s in sites], BITS, 0).measure(
            Silent(), lambda: None
        )
        same = {bits: [] for bits in BITS}
        for site in sites:
            channels = range(0, site.layer.channels, 4)
            variants = [Variant((channel,), bits) for channel in channels for bits in BITS]
            exact = measure_variants(workload, site, variants, lambda _n: None).delta_loss
            for variant, value in zip(variants, exact, strict=True):
                column = table.delta_loss().column(site.layer.name, variant.bits)
                same[variant.bits].append((column[variant.channels[0]] > 0) == (value > 0))
        assert np.mean(same[8]) >= 0.9
        assert np.mean(same[4]) >= 0.85
        assert np.mean(same[2]) >= 0.7


@pytest.fixture(scope="module")
def workload(classifiers: dict[str, Classifier]) -> Workload:
    """75 images: two blocks and a part."""
    return workload_of(classifiers["projection"], 75)


@pytest.fixture(scope="module")
def expected(workload: Workload) -> list[bytes]:
    return content(tables(workload))


class TestSameBytes:
    @pytest.mark.parametrize("threads", [1, 3])
    def test_whatever_the_threads(self, workload, expected, threads):
        assert content(tables(replace(workload, threads=threads))) == expected

    @pytest.mark.parametrize("size", [1, 3, 32])
    def test_whatever_the_images_in_a_run(self, workload, expected, monkeypatch, size):
        monkeypatch.setattr(backward_module, "BACKWARD_IMAGES", size)
        assert content(tables(workload)) == expected

    def test_large_images_are_run_one_by_one(self, workload, expected, monkeypatch):
        run, sizes = Runner.run, set()

        def seen(self, session, given):
            sizes.add(len(next(iter(given.values()))))
            return run(self, session, given)

        monkeypatch.setattr(Runner, "run", seen)
        monkeypatch.setattr(backward_module, "RUN_BYTES", 1)
        monkeypatch.setattr(workload_module, "RUN_BYTES", 1)
        assert content(tables(workload)) == expected
        assert sizes == {1}

    def test_whatever_the_memory(self, workload, expected):
        assert content(tables(replace(workload, memory=1))) == expected

    def test_saved_and_taken_up_again(self, workload, expected, tmp_path):
        path = tmp_path / "moments.npz"
        names = [layer.name for layer in workload.classifier.layers]
        first = FastMeasurement(workload, names, BITS, 0, products=True)

        def stop_after_two() -> None:
            if first.done == 64:
                first.save(path, NO_RUN)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            first.measure(Silent(), stop_after_two)
        second = FastMeasurement(workload, names, BITS, 0, products=True)
        second.restore(path, NO_RUN)
        assert second.done == 64
        assert content(second.measure(Silent(), lambda: None)) == expected

    @pytest.mark.parametrize("limit", [10000, 5000, 1])
    def test_the_same_in_parts_but_for_float32_noise(self, workload, monkeypatch, limit):
        """Some layers in a part, then single ones, then every bitwidth by itself.

        ONNX Runtime fuses other nodes in another graph; a model always falls into the same parts.
        """
        whole, cut = tables(workload), partial(parts_of, limit=limit)
        assert len(cut(workload.classifier.layers, BITS)) > 1
        monkeypatch.setattr(fast_module, "parts_of", cut)
        found = tables(workload)
        assert list(found.moments) == list(whole.moments)
        for layer, moments in found.moments.items():
            for name, array in moments.arrays.items():
                expected = whole.moments[layer].arrays[name]
                noise = 1e-4 * float(np.abs(expected).max())
                assert array == pytest.approx(expected, rel=1e-4, abs=noise)

    @pytest.mark.parametrize("stop", [75, 75 + 32])
    def test_taken_up_again_between_parts_and_inside_one(
        self, workload, monkeypatch, tmp_path, stop
    ):
        path, names = tmp_path / "moments.npz", [layer.name for layer in workload.classifier.layers]
        monkeypatch.setattr(fast_module, "parts_of", partial(parts_of, limit=5000))
        expected = content(tables(workload))
        first = FastMeasurement(workload, names, BITS, 0, products=True)

        def interrupt() -> None:
            if first.done == stop:
                first.save(path, NO_RUN)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            first.measure(Silent(), interrupt)
        second = FastMeasurement(workload, names, BITS, 0, products=True)
        second.restore(path, NO_RUN)
        assert 0 < len(second.moments) < len(names)
        assert content(second.measure(Silent(), lambda: None)) == expected
        assert second.finished

    def test_some_layers_alone(self, workload):
        found = tables(workload, ["c2"])
        assert list(found.moments) == ["c2"]
        everything = tables(workload)
        for name, array in found.moments["c2"].arrays.items():
            assert array.tobytes() == everything.moments["c2"].arrays[name].tobytes()


class TestFolds:
    """Image n is in fold n % 8."""

    def test_a_fold_is_what_its_images_alone_give(self, workload):
        found = tables(workload).kl_increase_folds()
        for fold in (0, 7):
            own = np.arange(fold, len(workload.images), FOLDS)
            alone = tables(replace(workload, images=workload.images.select(own))).kl_increase()
            for layer, values in found.items():
                assert values.shape == (FOLDS, *alone.nats[layer].shape)
                assert values[fold] == pytest.approx(alone.nats[layer], rel=1e-5, abs=1e-12)

    def test_their_mean_by_images_is_the_kl_increase(self, workload):
        found = tables(workload)
        counts = [len(range(fold, 75, FOLDS)) for fold in range(FOLDS)]
        for layer, values in found.kl_increase_folds().items():
            mean = np.average(values, axis=0, weights=counts)
            assert mean == pytest.approx(found.kl_increase().nats[layer], rel=1e-12)

    def test_fewer_images_than_folds(self, workload):
        found = tables(workload.first(3))
        assert {len(values) for values in found.kl_increase_folds().values()} == {3}

    def test_products_only_where_they_are_asked_for(self, workload):
        """Without them the rest is the same, and the KL of a semilayer is that of its channels."""
        whole, names = tables(workload), [layer.name for layer in workload.classifier.layers]
        lean = FastMeasurement(workload, names, BITS, 0).measure(Silent(), lambda: None)
        for layer in workload.classifier.layers:
            own, other = lean.moments[layer.name], whole.moments[layer.name]
            assert own.products is None
            assert own.squares.tobytes() == other.squares.tobytes()
            diagonal = np.einsum("bcc->cb", other.products)
            assert own.squares.sum(axis=0) == pytest.approx(diagonal, rel=1e-5)
            everything = Semilayer(layer.name, Sign.BOTH, tuple(range(layer.channels)), 4)
            alone = lean.kl_increase().column(layer.name, 4)
            assert lean.kl(everything) == pytest.approx(alone.sum(), rel=1e-12)


class TestForms:
    def test_layers_above_an_operator_without_a_rule(self, classifiers):
        found = tables(workload_of(classifiers["atan"], 8))
        assert set(found.missing) == {"stem", "c1"}
        assert set(found.moments) == {"c2", "scores"}
        assert all("Atan 'e'" in reason for reason in found.missing.values())

    def test_layers_without_a_gradient_are_remembered(self, classifiers, tmp_path):
        workload = workload_of(classifiers["atan"], 8)
        names = [layer.name for layer in workload.classifier.layers]
        whole = FastMeasurement(workload, names, BITS, 0)
        found = whole.measure(Silent(), lambda: None)
        whole.save(tmp_path / "moments.npz", NO_RUN)
        again = FastMeasurement(workload, names, BITS, 0)
        again.restore(tmp_path / "moments.npz", NO_RUN)
        assert again.finished
        recalled = again.measure(Silent(), lambda: None)
        assert recalled.missing == found.missing
        assert content(recalled) == content(found)

    def test_nothing_can_be_measured(self, classifiers):
        found = tables(workload_of(classifiers["atan"], 8), ["stem", "c1"])
        assert set(found.missing) == {"stem", "c1"}
        assert not found.moments
        assert not found.delta_loss().nats

    def test_labels_are_drawn_for_many_classes(self, classifiers):
        workload = workload_of(classifiers["many"], 40, classes=20)
        one, again, other = (tables(workload, seed=seed) for seed in (0, 0, 1))
        assert content(one) == content(again)
        for layer in one.moments:
            assert one.moments[layer].first.tobytes() == other.moments[layer].first.tobytes()
            assert (one.moments[layer].squares != other.moments[layer].squares).any()

    def test_drawn_labels_estimate_the_fisher_matrix(self, classifiers):
        """Over many images the drawn second moments come close to the exact KL."""
        workload = workload_of(classifiers["many"], 1500, classes=20)
        semilayers = [
            Semilayer(layer.name, Sign.POSITIVE, tuple(range(layer.channels)), 8)
            for layer in workload.classifier.layers
        ]
        found = tables(workload)
        exact = exact_kl(workload, semilayers, Silent(), Journal())
        assert [found.kl(item) for item in semilayers] == pytest.approx(exact, rel=0.25)

    def test_a_fixed_batch_gives_what_a_free_one_does(self, classifiers):
        fixed, free = (tables(workload_of(classifiers[n], 10)) for n in ("fixed-batch", "identity"))
        for layer, moments in free.moments.items():
            assert fixed.moments[layer].first == pytest.approx(moments.first, rel=1e-3, abs=1e-6)
            assert fixed.moments[layer].squares == pytest.approx(
                moments.squares, rel=1e-3, abs=1e-6
            )
            assert fixed.moments[layer].products == pytest.approx(
                moments.products, rel=1e-3, abs=1e-6
            )


def by_differences(
    workload: Workload, layer: str, channels: tuple[int, ...], bits: int
) -> tuple[float, float]:
    """Mean first-order and half the mean Fisher term, nats."""
    classifier = workload.classifier
    site, chosen = classifier.site(layer), list(channels)
    weight, bias = site.layer.weight, correctable_bias(classifier, site)
    change, shift = np.zeros(weight.shape), np.zeros(len(weight))
    quantized = workload.rounding.at(site.layer, bits).dequantize()
    change[chosen] = quantized[chosen].astype(np.float64) - weight[chosen]
    shifts = workload.rounding.bias_shift(site.layer, bits)
    if shifts is not None:
        shift[chosen] = shifts[chosen]
    ends = [
        logits64(
            workload,
            layer,
            weight + step * change,
            None if bias is None else bias + step * shift,
        )
        for step in (STEP, -STEP)
    ]
    slope = (ends[0] - ends[1]) / (2 * STEP)  # [N, K]
    logits = logits64(workload, layer, weight.astype(np.float64))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    one = np.eye(p.shape[1])[workload.labels]
    first = np.mean(((p - one) * slope).sum(axis=1))
    fisher = (p * slope**2).sum(axis=1) - (p * slope).sum(axis=1) ** 2
    return float(first), float(np.mean(fisher) / 2)


def logits64(
    workload: Workload,
    layer: str,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The reference evaluator's, in float64; with another bias if one is given."""
    classifier = workload.classifier
    site = classifier.site(layer)
    model = onnx.ModelProto()
    model.CopyFrom(_double(classifier))
    for tensor in model.graph.initializer:
        if tensor.name == site.initializer:
            stored = site.layout.to_stored(weight)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(stored), tensor.name))
    if bias is not None:
        node = next(node for node in model.graph.node if node.name == site.nodes[0])
        give_bias(model.graph, node, bias)
    pixels = workload.images.batch(0, len(workload.images)).astype(np.float64)
    feeds = {classifier.ends.image.name: pixels}
    found = ReferenceEvaluator(model).run([classifier.ends.logits], feeds)[0]
    return np.asarray(found).reshape(len(pixels), -1)


@cache
def _double(classifier: Classifier) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(classifier.proto)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return model
