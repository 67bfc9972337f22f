"""Measuring: the splice against the plain way, and independence of threads and batches."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from emitting import Shifted
from residual_net import save_noise, save_residual_net

from onnxsemi._data.load import DataOptions, load_images
from onnxsemi._errors import ModelError
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.forward import logit_rows
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._run.journal import Journal
from onnxsemi._sensitivity import variants as variants_module
from onnxsemi._sensitivity.delta_loss import exact_delta_loss
from onnxsemi._sensitivity.semilayer_kl import exact_kl
from onnxsemi._sensitivity.variants import Variant, Workload, measure_plainly, measure_variants
from onnxsemi._stats.metrics import cross_entropy, kl_divergence

NATS = 2e-6  # what float32 noise may make of Δloss and KL


def ignore(_amount):
    pass


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    model = save_residual_net(folder / "net.onnx")
    classifier = read_model(model, ReadOptions(targets=TargetPolicy.ALL))
    data = save_noise(folder / "noise.npz", count=70, seed=1)
    image = classifier.ends.image
    return Workload(
        classifier, load_images(data, image.name, image.shape), Nearest(Scheme.ASYMMETRIC), 2
    )


def variants_of(site):
    channels = range(site.layer.channels)
    single = [Variant((channel,), bits) for channel in channels for bits in (8, 4, 2)]
    halves = [Variant(tuple(channels)[half::2], 3) for half in (0, 1)]
    return [*single, *halves, Variant(tuple(channels), 6)]


def agree(one, other):
    assert np.abs(one.delta_loss - other.delta_loss).max() <= NATS
    assert np.abs(one.kl - other.kl).max() <= NATS
    assert one.kl.max() > 100 * NATS  # the test would otherwise compare noise with noise


def test_splice_equals_changing_the_weight_for_every_layer(workload):
    for site in workload.classifier.sites:
        variants = variants_of(site)
        agree(
            measure_variants(workload, site, variants, ignore),
            measure_plainly(workload, site, variants, ignore),
        )


def test_shifts_of_biases_in_both_ways(workload):
    shifted = replace(workload, rounding=Shifted(workload.classifier))
    for site in workload.classifier.sites:
        variants = variants_of(site)
        spliced = measure_variants(shifted, site, variants, ignore)
        agree(spliced, measure_plainly(shifted, site, variants, ignore))
        differs = spliced.kl != measure_variants(workload, site, variants, ignore).kl
        shifted_at = np.array([variant.bits != 8 for variant in variants])
        assert not differs[~shifted_at].any()
        assert differs.any() == (correctable_bias(workload.classifier, site) is not None)


def test_a_shift_of_a_bias_that_cannot_be_changed(workload):
    class Wrong(Nearest):
        def bias_shift(self, layer, bits):
            return np.ones((layer.channels), np.float32) * bits

    site = workload.classifier.site("tied1")
    wrong = replace(workload, rounding=Wrong(Scheme.ASYMMETRIC))
    with pytest.raises(ValueError, match="'tied1': a shift of a bias that cannot be changed"):
        measure_variants(wrong, site, [Variant((0,), 4)], ignore)


def test_plain_way_is_the_definition(workload):
    """Δloss and KL by hand: set the weight, run the model, compare."""
    site = workload.classifier.sites[1]
    name, channels = site.layer.name, site.layer.channels
    plan = BitPlan.uniform(workload.classifier.layers).with_bits(name, [2], 3)
    before = workload.forward(workload.classifier.proto)
    codes = rounded(workload.classifier.layers, plan, workload.rounding)
    after = workload.forward(simulate(workload.classifier, codes))
    found = measure_plainly(workload, site, [Variant((2,), 3)], ignore)
    labels = workload.labels
    loss = np.mean(cross_entropy(after, labels) - cross_entropy(before, labels))
    assert found.delta_loss[0] == loss
    assert found.kl[0] == np.mean(kl_divergence(before, after))
    assert channels > 2


def test_shared_weight_is_quantized_in_every_node_that_uses_it(workload):
    tied = next(site for site in workload.classifier.sites if len(site.nodes) == 2)
    assert tied.nodes[0] == tied.layer.name
    both = measure_variants(workload, tied, [Variant(tuple(range(8)), 2)], ignore)
    assert both.kl[0] > 0


def test_a_variant_that_changes_nothing_has_no_effect_at_all(workload):
    for site in workload.classifier.sites:
        effects = measure_variants(workload, site, [Variant((), 4)], ignore)
        assert effects.delta_loss.tolist() == [0.0]
        assert effects.kl.tolist() == [0.0]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 64, 1000], ids=lambda rows: f"{rows}-rows-a-run")
def test_same_bits_whatever_the_threads_and_batches(workload, monkeypatch, threads, rows):
    site = workload.classifier.sites[1]
    variants = variants_of(site)
    expected = measure_variants(workload, site, variants, ignore)
    monkeypatch.setattr(variants_module, "SPLICED_ROWS", rows)
    found = measure_variants(replace(workload, threads=threads), site, variants, ignore)
    assert found.delta_loss.tobytes() == expected.delta_loss.tobytes()
    assert found.kl.tobytes() == expected.kl.tobytes()


def test_progress_adds_up(workload):
    site, done = workload.classifier.sites[1], []
    variants = variants_of(site)
    measure_variants(workload, site, variants, done.append)
    assert sum(done) == len(variants) * len(workload.images)


def test_delta_loss_table_has_every_channel_at_every_bitwidth(workload):
    names = {layer.name for layer in workload.classifier.layers}
    table, kl = exact_delta_loss(workload, names, (8, 4), Silent(), Journal())
    assert table.samples == len(workload.images)
    for site in workload.classifier.sites:
        values = table.nats[site.layer.name]
        assert values.shape == (site.layer.channels, 2)
        one = measure_variants(workload, site, [Variant((1,), 4)], ignore)
        assert table.column(site.layer.name, 4)[1] == one.delta_loss[0]
        assert kl.column(site.layer.name, 4)[1] == one.kl[0]


def test_kl_in_the_order_asked(workload):
    names = [layer.name for layer in workload.classifier.layers]
    wanted = [
        Semilayer(names[2], Sign.NEGATIVE, (0, 1), 4),
        Semilayer(names[0], Sign.POSITIVE, (2,), 2),
        Semilayer(names[2], Sign.POSITIVE, (3,), 8),
    ]
    together = exact_kl(workload, wanted, Silent(), Journal())
    alone = [exact_kl(workload, [semilayer], Silent(), Journal())[0] for semilayer in wanted]
    assert together.tolist() == alone


@pytest.mark.parametrize(
    ("shape", "message"),
    [((4, 1), "two classes"), ((4, 5, 2, 2), "images, classes"), ((3, 5), "4 images")],
)
def test_output_that_is_no_classifier(shape, message):
    with pytest.raises(ModelError, match=message):
        logit_rows(np.zeros(shape, np.float32), 4)


def test_fixed_batch_gives_the_same_answers(workload, tmp_path):
    """The net with batch 4, on 70 images: the last batch is padded, its padding is not counted."""
    model = save_residual_net(tmp_path / "net.onnx")
    fixed_path = tmp_path / "fixed.onnx"
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(proto, fixed_path)
    fixed = read_model(fixed_path, ReadOptions(targets=TargetPolicy.ALL))
    assert fixed.ends.image.batch == 4
    fixed_workload = replace(workload, classifier=fixed)
    one, other = (own.forward(own.classifier.proto) for own in (workload, fixed_workload))
    assert np.abs(one - other).max() <= 1e-5 * np.abs(one).max()
    for site in workload.classifier.sites[:3]:
        fixed_site = fixed.site(site.layer.name)
        variants = [Variant((0,), 2), Variant((1, 2), 4)]
        agree(
            measure_variants(workload, site, variants, ignore),
            measure_variants(fixed_workload, fixed_site, variants, ignore),
        )


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("place", [0, 7, 17])
def test_splice_on_a_real_network(shared, place):
    classifier = read_model(shared / "models/resnet20_cifar10.onnx", ReadOptions(targets="hidden"))
    image = classifier.ends.image
    options = DataOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    data = load_images(shared / "data/cifar10_search.npz", image.name, image.shape, options)
    few = Workload(classifier, data.select(np.arange(40)), Nearest(Scheme.ASYMMETRIC), 2)
    site = classifier.sites[place]
    variants = [Variant((c,), bits) for c in range(3) for bits in (8, 4, 2)]
    variants.append(Variant(tuple(range(0, site.layer.channels, 2)), 2))
    agree(
        measure_variants(few, site, variants, ignore),
        measure_plainly(few, site, variants, ignore),
    )
