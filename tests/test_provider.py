"""Execution providers measure; what is written is verified and judged on the processor."""

from collections import Counter
from typing import ClassVar

import numpy as np
import onnxruntime as ort
import pytest
from command_line import assert_one_line, compress_command, run
from residual_net import residual_net, save_noise, save_residual_net

import onnxsemi
from onnxsemi import ApplySettings, SearchSettings, Settings, SettingsError
from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import DataOptions, load_pixels
from onnxsemi._evaluation import provider_check
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._run.plan_file import read_plan
from onnxsemi._runtime import providers
from onnxsemi._runtime.providers import CPU, Provider, nodes_run

FULL = "{}ExecutionProvider".format
CUDA, OPENVINO = FULL("CUDA"), FULL("OpenVINO")
IMAGES = {name: np.zeros((2, 3, 8, 8), np.float32) for name in ("image",)}
FRONTIER = {"force": True, "allow_loss": True, "rounding_samples": 30, "delta_loss_samples": 16}
HERE = ort.get_available_providers()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("provider")
    save_residual_net(folder / "model.onnx")
    for name, seed in (("search", 1), ("report", 2)):
        save_noise(folder / f"{name}.npz", count=60, seed=seed)
    return folder


def compressed(inputs, output, **settings):
    return onnxsemi.compress(
        inputs / "model.onnx",
        inputs / "search.npz",
        test_data=inputs / "report.npz",
        output=output,
        settings=Settings(**FRONTIER | settings),
    )


class Recorded(ort.InferenceSession):
    """Runs on the processor, and tells what was asked for and with which images."""

    seen: ClassVar[list["Recorded"]]

    def __init__(self, model, sess_options, providers, **_):
        super().__init__(model, sess_options, [FULL("CPU")])
        self.asked, self.deterministic = providers, sess_options.use_deterministic_compute
        self.pixels = []
        type(self).seen.append(self)

    def get_providers(self):
        return [entry if isinstance(entry, str) else entry[0] for entry in self.asked]

    def run(self, outputs, feeds):
        rows = [row.tobytes() for value in feeds.values() for row in value]
        self.pixels += rows
        return super().run(outputs, feeds)


@pytest.fixture
def cuda(monkeypatch):
    """A machine that seems to have CUDA; every session that is opened."""

    class Session(Recorded):
        seen: ClassVar = []

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, FULL("CPU")])
    monkeypatch.setattr(providers.ort, "InferenceSession", Session)
    monkeypatch.setattr(provider_check, "nodes_run", lambda *_: Counter({"CUDA": 9}))
    return Session


class TestNames:
    @pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider"])
    def test_in_any_case_short_or_whole(self, name):
        assert Settings(provider=name).provider == "cpu"
        assert Settings(provider=name).runs_on.on_cpu

    def test_one_that_onnx_runtime_does_not_know(self):
        with pytest.raises(SettingsError, match=r"'gpu' is no .* which has .*cpu.* knows .*cuda"):
            Settings(provider="gpu")

    @pytest.mark.skipif(CUDA in HERE, reason="this ONNX Runtime has CUDA")
    def test_one_that_is_not_here_is_refused_with_its_package(self):
        for settings in (Settings, ApplySettings):
            with pytest.raises(
                SettingsError, match=r"does not have it, but .*cpu; .*onnxruntime-gpu"
            ):
                settings(provider="CUDA")

    def test_one_without_a_package(self):
        with pytest.raises(SettingsError, match="a build of ONNX Runtime with it"):
            Provider.named("vitisai")

    def test_on_the_command_line(self, inputs, tmp_path):
        words = compress_command(inputs, tmp_path / "small.onnx", "--provider", "gpu")
        assert_one_line(run(*words), "--provider: 'gpu'")
        words = ("check", inputs / "model.onnx", "--data", inputs / "search.npz")
        assert_one_line(run(*words, "--provider", "gpu"), "--provider: 'gpu'")


class TestOneThatRunsNothing:
    @pytest.mark.skipif(FULL("Azure") not in HERE, reason="this ONNX Runtime has no such provider")
    def test_is_refused(self, inputs, tmp_path):
        words = compress_command(inputs, tmp_path / "small.onnx", "--provider", "azure")
        assert_one_line(run(*words), "--provider azure: it runs nothing of this model")

    def test_nodes_are_counted(self):
        model = residual_net().SerializeToString()
        ran = nodes_run(model, IMAGES, CPU)
        assert ran.keys() == {"CPU"}
        assert ran["CPU"] > 5

    def test_one_that_cannot_begin_is_refused(self, inputs, cuda, monkeypatch, tmp_path):
        monkeypatch.setattr(cuda, "get_providers", lambda _: [FULL("CPU")])
        with pytest.raises(SettingsError, match="would run on the processor instead"):
            compressed(inputs, tmp_path / "small.onnx", provider="cuda")

    def test_some_nodes_elsewhere_are_a_warning(self, inputs, cuda, monkeypatch):
        monkeypatch.setattr(provider_check, "nodes_run", lambda *_: Counter({"CUDA": 3, "CPU": 2}))
        found = checked(inputs)
        assert any("2 of 5 nodes" in said and "run on the cpu" in said for said in found.warnings)
        assert cuda.seen


def checked(inputs):
    return onnxsemi.check(
        inputs / "model.onnx",
        inputs / "search.npz",
        test_data=inputs / "report.npz",
        settings=Settings(provider="cuda", force=True),
    )


class TestBits:
    def test_answers_that_depend_on_the_batch_are_a_warning(self, inputs, cuda, monkeypatch):
        def noisy(session, outputs, feeds):
            found = Recorded.run(session, outputs, feeds)
            many = len(next(iter(feeds.values()))) > 8
            measured = CUDA in session.get_providers()
            return [value * np.float32(1 + 1e-6 * (many and measured)) for value in found]

        assert not any("last bits" in said for said in checked(inputs).warnings)
        monkeypatch.setattr(cuda, "run", noisy)
        assert any("last bits in another batch" in said for said in checked(inputs).warnings)


@pytest.mark.slow
class TestWhatRunsWhere:
    """With a provider that is one by name only: the processor's bits, whatever measures."""

    @pytest.fixture(params=["frontier", "semilayer", "exact", "int8"])
    def settings(self, request):
        paper = SearchSettings(method="semilayer", max_drop=3)
        return {
            "frontier": {},
            "semilayer": {"search": paper, "rounding_samples": 8},
            "exact": {"delta_loss": "exact", "kl": "exact"},
            "int8": {"profile": "int8"},
        }[request.param]

    def test_measuring_and_judging(self, inputs, cuda, monkeypatch, tmp_path, settings):
        result = compressed(inputs, tmp_path / "cuda.onnx", provider="cuda", **settings)
        measuring = [session for session in cuda.seen if CUDA in session.get_providers()]
        judging = [session for session in cuda.seen if CUDA not in session.get_providers()]
        assert len(measuring) > 5
        wanted = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
        assert all(session.asked == [(CUDA, wanted), FULL("CPU")] for session in measuring)
        assert all(session.deterministic for session in measuring)
        test = {row.tobytes() for row in laid_out(inputs / "report.npz")}
        search = {row.tobytes() for row in laid_out(inputs / "search.npz")}
        assert test <= {row for session in judging for row in session.pixels}
        for session in measuring:
            assert not test & set(session.pixels)
        assert search <= {row for session in measuring for row in session.pixels}
        assert result.made_from["--provider"] == "cuda"
        assert "provider cuda" in read_plan(tmp_path / "cuda.plan.json").processor.libraries
        monkeypatch.undo()
        plain = compressed(inputs, tmp_path / "cpu.onnx", provider=FULL("CPU"), **settings)
        assert "--provider" not in plain.made_from
        assert (tmp_path / "cuda.onnx").read_bytes() == (tmp_path / "cpu.onnx").read_bytes()

    def test_a_run_goes_on_with_the_same_only(self, inputs, cuda, tmp_path):
        words = compress_command(inputs, tmp_path / "small.onnx", "--run", tmp_path / "small.run")
        assert run(*words, "--allow-loss").exit_code == 0
        again = run(*words, "--allow-loss", "--resume", "--provider", "cuda")
        assert_one_line(again, "--provider")
        assert cuda.seen

    def test_apply_rounds_where_it_is_told(self, inputs, cuda, tmp_path):
        compressed(inputs, tmp_path / "small.onnx", provider="cuda")
        cuda.seen.clear()
        result = onnxsemi.apply(
            tmp_path / "small.plan.json",
            inputs / "model.onnx",
            output=tmp_path / "again.onnx",
            data=inputs / "report.npz",
            calibration_data=inputs / "search.npz",
            settings=ApplySettings(provider="cuda"),
        )
        assert result.origin.same_weights
        measuring = [session for session in cuda.seen if CUDA in session.get_providers()]
        test = {row.tobytes() for row in laid_out(inputs / "report.npz")}
        assert measuring
        assert not any(test & set(session.pixels) for session in measuring)


def laid_out(path):
    """Images as the model takes them: float32[N, 3, 8, 8]."""
    images = load_pixels(path, "image", (None, 3, 8, 8), DataOptions())
    return images.batch(0, len(images))


@pytest.mark.skipif(OPENVINO not in HERE, reason="needs the package onnxruntime-openvino")
class TestOpenVino:
    def test_it_runs_every_node_with_the_same_bits(self, inputs):
        assert provider_check.check_provider(workload(inputs)) == ()
        ran = nodes_run(residual_net().SerializeToString(), IMAGES, Provider.named("openvino"))
        assert ran.keys() == {"OpenVINO"}

    @pytest.mark.slow
    def test_the_same_bytes_with_any_number_of_threads(self, inputs, tmp_path):
        one, two = (tmp_path / f"{threads}.onnx" for threads in (1, 2))
        for threads, output in enumerate((one, two), start=1):
            result = compressed(inputs, output, provider="openvino", threads=threads)
            assert result.made_from["--provider"] == "openvino"
        assert one.read_bytes() == two.read_bytes()


def workload(inputs):
    classifier = read_model(inputs / "model.onnx", ReadOptions())
    images = ImageSet("noise", laid_out(inputs / "search.npz"))
    rounding = Nearest(Scheme.ASYMMETRIC)
    return Workload(classifier, images, rounding, 2, provider=Provider.named("openvino", 2))
