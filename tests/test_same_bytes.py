"""What runs and plans say of the processors that they were made on."""

import json
import shutil
import sys

import pytest
from command_line import assert_one_line, frontier_command, run
from msgspec.structs import replace
from residual_net import save_noise, save_residual_net
from run_files import change_head, content

import onnxsemi
from onnxsemi._run.plan_file import read_plan
from onnxsemi._runtime.processor import Processor

pytestmark = pytest.mark.slow

OLD = Processor(("x86_64", "AVX", "AVX2", "FMA"), ("openblas 0.3.31 Haswell",), "AMD EPYC")
NEW = Processor((*OLD.features, "AVX512F"), ("openblas 0.3.31 SkylakeX",), "Intel Xeon")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("done")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=60, seed=1, labels=False)
    save_noise(folder / "report.npz", count=30, seed=2, labels=False)
    result = run(*command(folder))
    assert result.exit_code == 0, result.output
    return folder


def command(folder, *more, out="small.onnx"):
    given = ("--rounding-samples", "30", "--max-drop", "3", "-q", "--allow-loss", *more)
    words = [*frontier_command(folder, out, *given)]
    words.remove("--force")  # which is asked for here only where the processor is another
    return words


def apply(folder, plan, *more, out):
    images = ("--calibration-data", folder / "search.npz")
    return run("apply", plan, folder / "model.onnx", "-o", out, *images, *more)


def elsewhere(monkeypatch, kind=NEW):
    monkeypatch.setattr(Processor, "here", classmethod(lambda *_: kind))


def edited(done, tmp_path, **changes):
    """The plan with some keys changed, or without those that are None."""
    document = json.loads((done / "small.plan.json").read_text()) | changes
    path = tmp_path / "edited.plan.json"
    path.write_text(
        json.dumps({key: value for key, value in document.items() if value is not None})
    )
    return path


class TestApply:
    def test_plan_says_what_came_of_it(self, done):
        plan = read_plan(done / "small.plan.json")
        assert plan.processor == Processor.here()
        assert plan.processor.name == ""
        assert len(plan.weights_sha256) == 64

    @pytest.mark.parametrize("profile", ["qdq", "fast", "nodes", "fake"])
    def test_the_very_weights_in_any_profile(self, done, tmp_path, monkeypatch, profile):
        elsewhere(monkeypatch)
        out = tmp_path / "again.onnx"
        result = apply(done, done / "small.plan.json", "--profile", profile, out=out)
        assert "Its weights are those that the plan gave where it was made, bit for bit." in (
            " ".join(result.stdout.split())
        )
        if profile == "qdq":
            assert out.read_bytes() == (done / "small.onnx").read_bytes()

    def test_in_python_and_as_json(self, done, tmp_path):
        plan, out = done / "small.plan.json", tmp_path / "again.onnx"
        images = done / "search.npz"
        result = onnxsemi.apply(plan, done / "model.onnx", output=out, calibration_data=images)
        assert result.same_weights is True
        document = json.loads(apply(done, plan, "--json", out=out).stdout)
        assert document["same_weights"] is True
        assert document["origin"]["processor"]["features"] == list(Processor.here().features)

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            (NEW, "rounded on another kind of processor (there: x86_64 AVX AVX2 FMA; here: Intel"),
            (replace(OLD, libraries=NEW.libraries), "by other libraries or kernels of theirs"),
            (OLD, "on the same kind of processor, but its weights are others"),
        ],
        ids=["processor", "libraries", "same"],
    )
    def test_other_weights(self, done, tmp_path, monkeypatch, kind, words):
        elsewhere(monkeypatch, kind)
        plan = edited(
            done,
            tmp_path,
            weights_sha256="0" * 64,
            processor={"features": OLD.features, "libraries": OLD.libraries},
        )
        result = apply(done, plan, out=tmp_path / "other.onnx")
        assert words in " ".join(result.stdout.split())
        document = json.loads(apply(done, plan, "--json", out=tmp_path / "other.onnx").stdout)
        assert document["same_weights"] is False
        assert words in document["origin"]["summary"]

    def test_other_weights_of_a_run_on_several_processors(self, done, tmp_path):
        plan = edited(done, tmp_path, weights_sha256="0" * 64, processor=None)
        said = " ".join(apply(done, plan, out=tmp_path / "other.onnx").stdout.split())
        assert "The same plan, but its weights are others than where the plan was made." in said

    @pytest.mark.parametrize("missing", ["weights_sha256", "plan_sha256"])
    def test_nothing_is_said_of_a_plan_that_does_not_know(self, done, tmp_path, missing):
        plan = edited(done, tmp_path, **{missing: None})
        result = apply(done, plan, out=tmp_path / "old.onnx")
        assert result.exit_code == 0, result.output
        assert "where it was made" not in result.stdout
        document = json.loads(apply(done, plan, "--json", out=tmp_path / "old.onnx").stdout)
        assert document["same_weights"] is None
        assert document["origin"] is None

    def test_nothing_is_said_of_an_edited_plan_but_that_it_was(self, done, tmp_path):
        layers = json.loads((done / "small.plan.json").read_text())["layers"]
        layers["c1"]["bits"] = {"8": f"0-{layers['c1']['channels'] - 1}"}
        result = apply(done, edited(done, tmp_path, layers=layers), out=tmp_path / "edited.onnx")
        assert "The plan was edited" in result.stdout
        assert "where it was made" not in result.stdout

    def test_a_point_of_a_run(self, done, tmp_path):
        out = tmp_path / "point.onnx"
        said = run("apply", done / "small.run", "-o", out)
        assert "bit for bit" in " ".join(said.stdout.split()).partition("made, ")[2]
        own, plan = read_plan(tmp_path / "point.plan.json"), read_plan(done / "small.plan.json")
        assert own.weights_sha256 == plan.weights_sha256
        assert own.processor == plan.processor
        said = run("apply", done / "small.run", "--at", "50%", "-o", out)
        assert "where it was made" not in said.stdout  # it was not made before
        other = read_plan(tmp_path / "point.plan.json")
        assert other.weights_sha256 not in (None, own.weights_sha256)
        again = apply(done, tmp_path / "point.plan.json", "--json", out=tmp_path / "again.onnx")
        assert json.loads(again.stdout)["same_weights"] is True

    def test_a_point_that_is_rounded_elsewhere(self, done, tmp_path, monkeypatch):
        """Grids of one kind of processor, codes of another."""
        elsewhere(monkeypatch)
        run("apply", done / "small.run", "-o", tmp_path / "point.onnx")
        assert read_plan(tmp_path / "point.plan.json").processor is None


@pytest.fixture(scope="module")
def broken_off(done, tmp_path_factory):
    """A run on an old processor that was killed before it was done."""
    folder = tmp_path_factory.mktemp("broken_off")
    for name in ("model.onnx", "search.npz", "report.npz"):
        shutil.copy(done / name, folder)
    with pytest.MonkeyPatch.context() as patch:
        elsewhere(patch, OLD)
        module = sys.modules["onnxsemi._pipeline.search"]
        patch.setattr(module, "write_frontier", _killed)
        assert run(*command(folder)).exit_code == 130
    return folder


class TestResume:
    @pytest.fixture
    def begun(self, broken_off, tmp_path):
        """A run of its own."""
        return shutil.copytree(broken_off, tmp_path / "begun")

    def test_on_the_same_kind(self, begun, monkeypatch):
        elsewhere(monkeypatch, replace(OLD, name="AMD Ryzen"))
        result = run(*command(begun, "--resume", "--json"))
        assert result.exit_code == 0, result.output
        assert not any("processor" in note for note in json.loads(result.stdout)["notes"])
        assert read_plan(begun / "small.plan.json").processor == OLD

    def test_on_another_kind_is_refused(self, begun, monkeypatch):
        elsewhere(monkeypatch)
        before = (begun / "small.run" / "run.json").read_bytes()
        assert_one_line(
            run(*command(begun, "--resume")),
            "there: AMD EPYC, x86_64 AVX AVX2 FMA; here: Intel Xeon, x86_64 AVX AVX2 FMA AVX512F",
            "--force",
        )
        assert (begun / "small.run" / "run.json").read_bytes() == before

    def test_forced(self, begun, monkeypatch):
        elsewhere(monkeypatch)
        result = run(*command(begun, "--resume", "--force", "--json"))
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert any("AMD EPYC" in note and "Intel" in note for note in document["notes"])
        assert read_plan(begun / "small.plan.json").processor is None  # not one
        assert read_plan(begun / "small.plan.json").weights_sha256
        head = content(begun / "small.run" / "run.json")
        assert [kind["name"] for kind in head["processors"]] == ["AMD EPYC", "Intel Xeon"]
        kept = content(begun / "small.run" / "result.json")
        assert "AMD EPYC" in kept["made_from"]["processor"]

    def test_both_kinds_are_known_then(self, begun, monkeypatch):
        elsewhere(monkeypatch)
        assert run(*command(begun, "--resume", "--force")).exit_code == 0
        elsewhere(monkeypatch, OLD)
        again = run(*command(begun, "--resume", "--json"))
        assert again.exit_code == 0, again.output
        assert any("AMD EPYC" in note for note in json.loads(again.stdout)["notes"])

    def test_a_run_that_does_not_say_takes_this_one(self, begun):
        change_head(begun / "small.run", processors=())
        assert run(*command(begun, "--resume")).exit_code == 0
        (here,) = content(begun / "small.run" / "run.json")["processors"]
        assert here["features"] == list(Processor.here().features)

    @pytest.mark.parametrize("entry", ["AMD", [1], [{"features": 1}], None], ids=str)
    def test_a_damaged_head(self, begun, entry):
        change_head(begun / "small.run", processors=entry)
        assert_one_line(run(*command(begun, "--resume")), "of another version", "delete the folder")

    def test_begun_anew_it_is_another_run(self, begun, monkeypatch):
        elsewhere(monkeypatch)
        result = run(*command(begun, "--run", begun / "new.run", "--json"))
        assert result.exit_code == 0, result.output
        assert read_plan(begun / "small.plan.json").processor == NEW
        assert not any("processor" in note for note in json.loads(result.stdout)["notes"])


def _killed(*_):
    raise KeyboardInterrupt
