"""Transformers and ConvNeXt: every layer has a gradient, and fast agrees with exact."""

import numpy as np
import onnx
import pytest
from command_line import run
from onnx_models import images
from run_files import content
from transformer_nets import TRANSFORMERS

from onnxsemi._data.images import ImageSet
from onnxsemi._emit.profile import Profile
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.variants import Variant, measure_plainly, measure_variants

BITS = (8, 6)
IMAGES = 12
LAYERS = {
    "convnext": ("stem", "b1_dw", "b1_up", "b1_down", "b2_dw", "b2_up", "b2_down", "scores"),
    "vit": ("patches", "product", "proj", "up", "down", "scores"),
    "tokens-first": ("patches", "qkv", "proj", "scores"),
    "swin": ("patches", "qkv", "proj", "scores"),
}
TWO_FACTORS = "MatMul of two tensors that are computed at run time"
PRODUCTS = {"convnext": (), **dict.fromkeys(("vit", "tokens-first", "swin"), ("products", "mixed"))}


@pytest.fixture(scope="module", params=TRANSFORMERS)
def named_workload(request, tmp_path_factory) -> tuple[str, Workload]:
    path = tmp_path_factory.mktemp("transformers") / "model.onnx"
    onnx.save(TRANSFORMERS[request.param].model(), path)
    classifier = read_model(path, ReadOptions(targets=TargetPolicy.ALL))
    labels = np.random.default_rng(3).integers(0, 5, IMAGES)
    data = ImageSet("noise", images(IMAGES, seed=4), labels)
    return request.param, Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), threads=2)


def fast(workload):
    names = [layer.name for layer in workload.classifier.layers]
    return FastMeasurement(workload, names, BITS, 0).measure(Silent(), lambda: None)


def test_products_of_activations_are_no_layers(named_workload):
    name, workload = named_workload
    assert tuple(layer.name for layer in workload.classifier.layers) == LAYERS[name]
    skipped = {skip.name: skip.reason for skip in workload.classifier.skipped}
    assert skipped == dict.fromkeys(PRODUCTS[name], TWO_FACTORS)


def test_every_layer_has_a_gradient_and_agrees_with_exact(named_workload):
    # 8 bits change little, so that the second order is nearly all there is.
    _, workload = named_workload
    found = fast(workload)
    assert not found.missing
    nats, kl_increase = found.delta_loss(), found.kl_increase()
    for site in workload.classifier.sites:
        variants = [Variant((channel,), 8) for channel in range(min(site.layer.channels, 4))]
        exact = measure_variants(workload, site, variants, lambda _: None)
        measured = nats.column(site.layer.name, 8)[: len(variants)]
        assert measured == pytest.approx(exact.delta_loss, rel=0.02, abs=2e-6)
        kl = kl_increase.column(site.layer.name, 8)[: len(variants)]
        assert kl == pytest.approx(exact.kl, rel=0.05, abs=1e-7)


def test_images_do_not_mix(named_workload):
    # Each image alone, summed, is all of them together: nothing of one is counted as another's.
    _, workload = named_workload
    together = fast(workload).kl_increase()
    alone = [
        fast(
            Workload(
                workload.classifier, workload.images.select(np.array([n])), workload.rounding, 1
            )
        ).kl_increase()
        for n in range(3)
    ]
    few = fast(workload.first(3)).kl_increase()
    for layer in together.nats:
        mean = np.mean([table.nats[layer] for table in alone], axis=0)
        np.testing.assert_allclose(few.nats[layer], mean, rtol=1e-4, atol=1e-12)


def test_splicing_is_running_the_whole_model(named_workload):
    _, workload = named_workload
    for site in workload.classifier.sites:
        variants = [Variant((0,), 6), Variant((1, 2), 6)]
        spliced = measure_variants(workload, site, variants, lambda _: None)
        plain = measure_plainly(workload, site, variants, lambda _: None)
        assert spliced.delta_loss == pytest.approx(plain.delta_loss, abs=2e-6)
        assert spliced.kl == pytest.approx(plain.kl, rel=1e-3, abs=1e-6)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("profile", list(Profile))
def test_attention_is_compressed_in_every_profile(profile, shared, tmp_path):
    case, out = shared / "cases/c23_attention", tmp_path / "small.onnx"
    data = ("--data", case / "search.npz", "--report-data", case / "report.npz")
    asked = ("--bits", "8,4", "--targets", "all", "--max-drop", "20", "--profile", profile)
    result = run("compress", case / "model.onnx", *data, "-o", out, *asked)
    assert result.exit_code == 0, result.output
    report = content(tmp_path / "small.run" / "result.json")
    assert {skip["layer"]: skip["reason"] for skip in report["skipped"]} == dict.fromkeys(
        ("/attn/qk/MatMul", "/attn/av/MatMul"), TWO_FACTORS
    )
    assert report["sensitivity"]["layers_without_backward_pass"] == {}
    assert run("inspect", out).exit_code == 0
