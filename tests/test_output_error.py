"""Layers without a backward pass: measured exactly if they are few, else estimated."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import frontier_command, run
from emitting import Shifted
from onnx_models import ATAN, NETS, TIED, images
from residual_net import save_noise
from transformer_nets import TOKENS_FIRST

from onnxsemi import ReadOptions, SearchSettings, Settings
from onnxsemi._data.images import ImageSet
from onnxsemi._errors import SettingsError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.reader import read_model
from onnxsemi._pipeline import sensitivity as sensitivity_module
from onnxsemi._pipeline.preparation import prepare
from onnxsemi._pipeline.sensitivity import measure_sensitivity
from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, mixed_weight
from onnxsemi._run.folder import nowhere
from onnxsemi._run.journal import Journal
from onnxsemi._runtime.sessions import Session
from onnxsemi._sensitivity.delta_loss import exact_delta_loss
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.output_error import output_errors
from onnxsemi._sensitivity.semilayer_kl import exact_kl

pytestmark = pytest.mark.slow

BITS = (8, 4, 2)
IMAGES = 6


def workload_of(net, folder: Path, *, threads: int = 1) -> Workload:
    onnx.save(net.model(), folder / "model.onnx")
    classifier = read_model(folder / "model.onnx", ReadOptions(targets="all"))
    data = ImageSet("noise", images(IMAGES, seed=4), np.zeros(IMAGES, np.int64))
    return Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), threads)


def outputs(workload: Workload, site, model: onnx.ModelProto) -> list[np.ndarray]:
    """Output of each of a layer's nodes, channels last."""
    names = [n.output[0] for n in model.graph.node if n.name in site.nodes]
    exposed = Session(with_outputs(model, names).SerializeToString())
    found = exposed.run({"image": workload.images.batch(0, IMAGES)})
    return [
        np.moveaxis(found[name].astype(np.float64), site.layout.output_axis, -1) for name in names
    ]


@pytest.mark.parametrize("rounding", ["nearest", "shifted"])
@pytest.mark.parametrize(
    "net", [NETS["identity"], NETS["matmul"], NETS["transposed"], TOKENS_FIRST], ids=range(4)
)
def test_errors_are_those_of_the_changed_model(net, rounding, tmp_path):
    # The layer's weights are changed in the model itself: another way than the sum of changes. A
    # small change is a difference of float32 values, off by some units of their last place.
    workload = workload_of(net, tmp_path)
    if rounding == "shifted" and net is not TOKENS_FIRST:
        workload = replace(workload, rounding=Shifted(workload.classifier))
    names = [layer.name for layer in workload.classifier.layers]
    found = output_errors(workload, names, BITS, Silent(), Journal())
    for site in workload.classifier.sites:
        layer = site.layer
        (y,) = outputs(workload, site, workload.classifier.proto)
        rest = tuple(range(y.ndim - 1))
        for place, bits in enumerate(BITS):
            weight = mixed_weight(layer, [bits] * layer.channels, workload.rounding)
            (changed,) = outputs(
                workload, site, workload.classifier.with_weights({layer.name: weight})
            )
            shift = workload.rounding.bias_shift(layer, bits)
            delta = changed - y + (0 if shift is None else shift)
            expected = np.square(delta).mean(axis=rest) / y.var(axis=rest).sum()
            np.testing.assert_allclose(found[layer.name][:, place], expected, rtol=1e-3, atol=1e-11)


def test_nodes_that_share_a_weight_count_together(tmp_path):
    workload = workload_of(TIED, tmp_path)
    (site,) = (site for site in workload.classifier.sites if len(site.nodes) == 2)
    found = output_errors(workload, [site.layer.name], (4,), Silent(), Journal())[site.layer.name]
    values = outputs(workload, site, workload.classifier.proto)
    variance = np.concatenate([y.reshape(-1, y.shape[-1]) for y in values]).var(axis=0).sum()
    # The second node's input is the first one's output: its change is that of the weight alone.
    weight = mixed_weight(site.layer, [4] * site.layer.channels, workload.rounding)
    changed, _ = outputs(
        workload, site, workload.classifier.with_weights({site.layer.name: weight})
    )
    first = (
        np.square(changed - values[0]).sum(axis=(0, 1, 2)) / values[0][..., 0].size / 2 / variance
    )
    assert (found[:, 0] > first).all()
    assert found.sum() < 10 * first.sum()


def test_threads_change_nothing(tmp_path):
    workload = workload_of(NETS["identity"], tmp_path)
    names = [layer.name for layer in workload.classifier.layers]
    one, two = (
        output_errors(replace(workload, threads=threads), names, BITS, Silent(), Journal())
        for threads in (1, 2)
    )
    assert all(one[name].tobytes() == two[name].tobytes() for name in names)


def without_rule(tmp_path: Path, bits: tuple[int, ...], **chosen):
    """Model, images and what is measured on a net whose stem and c1 are above an Atan."""
    onnx.save(ATAN.model(), tmp_path / "atan.onnx")
    search = save_noise(tmp_path / "search.npz", count=40, seed=1)
    report = save_noise(tmp_path / "report.npz", count=10, seed=2)
    settings = Settings(
        search=SearchSettings(method="semilayer", bits=bits),
        model=ReadOptions(targets="all"),
        force=True,
        **chosen,
    )
    prepared = prepare(tmp_path / "atan.onnx", search, report, settings)
    phases = Phases()
    return (
        prepared,
        measure_sensitivity(prepared, Nearest(settings.grids), nowhere(), phases),
        phases,
    )


class Phases(Silent):
    """Remembers the phases."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def start(self, phase: str, total: int) -> None:
        assert total > 0
        self.names.append(phase)


def test_few_layers_without_a_backward_pass_are_measured_exactly(tmp_path: Path) -> None:
    prepared, found, phases = without_rule(tmp_path, (8,))
    assert set(found.summary.missing) == {"stem", "c1"}
    assert found.summary.estimated == ()
    workload = prepared.workload(prepared.delta_loss)
    table, _ = exact_delta_loss(workload, ["stem", "c1"], (8,), Silent(), Journal())
    for layer in ("stem", "c1"):
        assert found.table.nats[layer].tobytes() == table.nats[layer].tobytes()
    item = Semilayer("c1", Sign.POSITIVE, (0, 1), 8)
    exact = exact_kl(prepared.workload(prepared.search), [item], Silent(), Journal())
    assert found.kl([item], Silent(), Journal()) == exact
    (said,) = (name for name in phases.names if name.startswith("Δloss of 12 variants"))
    assert "above Atan 'e': no reverse rule, about " in said


def test_many_layers_without_a_backward_pass_are_estimated(tmp_path: Path) -> None:
    prepared, found, _ = without_rule(tmp_path, BITS)
    workload = prepared.workload(prepared.delta_loss)
    assert found.summary.estimated == ("stem", "c1")
    # nodes behind: 8 of 9 and 6 of 9
    assert found.summary.exact_passes == pytest.approx(6 * len(BITS) * (8 + 6) / 9)
    errors = output_errors(workload, ["stem", "c1", "c2", "scores"], BITS, Silent(), Journal())
    known = (
        FastMeasurement(workload, ["c2", "scores"], BITS, 0)
        .measure(Silent(), lambda: None)
        .kl_increase()
    )
    factor = np.median([known.nats[n].sum() / errors[n].sum() for n in ("c2", "scores")])
    for layer in ("stem", "c1"):
        np.testing.assert_allclose(found.table.nats[layer], factor * errors[layer], rtol=1e-12)
        assert (np.diff(found.kl_increase.nats[layer], axis=1) >= 0).all()
    item = Semilayer("c1", Sign.POSITIVE, (0, 1), 8)
    (kl,) = found.kl([item], Silent(), Journal())
    assert kl == pytest.approx(found.kl_increase.column("c1", 8)[:2].sum(), rel=1e-12)


def test_estimates_are_of_the_right_size(tmp_path: Path) -> None:
    # Against exact: the sum over a layer within a factor of ten.
    prepared, found, _ = without_rule(tmp_path, BITS)
    workload = prepared.workload(prepared.delta_loss)
    _, exact = exact_delta_loss(workload, ["stem", "c1"], BITS, Silent(), Journal())
    for layer in ("stem", "c1"):
        for bits in BITS[:2]:
            one, other = found.kl_increase.column(layer, bits), exact.column(layer, bits)
            assert 0.1 < one.sum() / other.sum() < 10


def test_nothing_but_outputs_is_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sensitivity_module, "FastMeasurement", None)
    monkeypatch.setattr(sensitivity_module, "exact_delta_loss", None)
    prepared, found, _ = without_rule(tmp_path, BITS, delta_loss="output")
    layers = ["stem", "c1", "c2", "scores"]
    assert list(found.summary.estimated) == layers
    workload = prepared.workload(prepared.delta_loss)
    errors = output_errors(workload, layers, BITS, Silent(), Journal())
    for layer in layers:
        assert found.table.nats[layer].tobytes() == errors[layer].tobytes()
        assert (found.table.nats[layer] > 0).all()


def test_kl_of_outputs_is_refused() -> None:
    with pytest.raises(SettingsError, match="`kl` output: the KL follows from `delta_loss` output"):
        Settings(kl="output")


@pytest.mark.parametrize("way", ["fast", "output"])
def test_the_command_says_what_is_estimated(way, tmp_path):
    onnx.save(ATAN.model(), tmp_path / "model.onnx")
    save_noise(tmp_path / "search.npz", count=40, seed=1)
    save_noise(tmp_path / "report.npz", count=20, seed=2)
    more = ("--max-drop", "40", "--bits", "8,4,2", "--delta-loss", way, "--verbose")
    result = run(*frontier_command(tmp_path, "small.onnx", *more))
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    lacking = "2 layers above Atan 'e': no reverse rule."
    assert (
        f"Estimated from the errors of outputs, for lack of a backward pass: {lacking}" in text
    ) is (way == "fast")
    layers = 2 if way == "fast" else 4
    assert f"Δloss and KL of {layers} layers are estimates from the errors of their outputs" in text
    assert "passes over 10 images (--delta-loss exact)" in text
