"""A plan whose file cannot be written, or is not what was measured, is left for the next one."""

import json
import shlex

import onnx
import pytest
from command_line import compress_command, run
from onnx_models import HEAD, SAME, Net, conv, head_shapes
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import Profile, Scheme, SearchSettings, Settings
from onnxsemi._errors import ModelError, PlanError, VerificationError
from onnxsemi._pipeline import nothing_holds as nothing
from onnxsemi._pipeline import output as write
from onnxsemi._pipeline import selection as choice

pytestmark = pytest.mark.slow

SHARED_WEIGHT = Net(
    conv("stem", "image", SAME)
    + "a = Relu (stem)\nc1 = Conv <pads = [1,1,1,1]> (a, twice_w)\nb = Relu (c1)\n"
    + "c2 = Conv <pads = [1,1,1,1]> (b, twice_w)\nlast = Relu (c2)\n"
    + HEAD,
    {"stem_w": (8, 3, 3, 3), "twice_w": (8, 8, 3, 3), **head_shapes(8)},
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unwritable")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=60, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    return folder


def refuse_below(monkeypatch, least):
    """Verification fails for plans of fewer bits a weight."""
    verify = write.verify

    def fails(path, workload, rounded, ranges=None):
        if rounded.plan.mean_bits < least:
            raise VerificationError(f"{path}: the logits are others")
        verify(path, workload, rounded, ranges)

    monkeypatch.setattr(write, "verify", fails)


def test_the_next_plan_is_taken_and_the_reason_said(work, monkeypatch):
    plain = run(*compress_command(work, "plain.onnx", "--json"))
    assert plain.exit_code == 0, plain.output
    bits = json.loads(plain.stdout)["plan"]["mean_bits"]
    refuse_below(monkeypatch, bits + 1e-9)
    other = run(*compress_command(work, "other.onnx", "--json"))
    assert other.exit_code == 0, other.output
    said = " ".join(other.stderr.split())
    assert "left for the next: its file cannot be given: the logits are others" in said
    assert json.loads(other.stdout)["plan"]["mean_bits"] > bits


def test_if_none_can_be_written_the_run_is_kept_and_goes_on(work, monkeypatch):
    with monkeypatch.context() as patched:
        refuse_below(patched, 32)
        result = run(*compress_command(work, "none.onnx"))
        assert result.exit_code == 4, result.output
        assert not (work / "none.onnx").exists()
    assert run("pareto", work / "none.run").exit_code == 0
    again = run(*compress_command(work, "none.onnx", "--resume"))
    assert again.exit_code == 0, again.output
    assert (work / "none.onnx").exists()


def refuse_to_emit_below(monkeypatch, least, error):
    """Plans of fewer bits a weight cannot be written, not even to be measured."""
    emit = write.emit

    def fails(classifier, rounded, profile, ranges=None):
        if rounded.plan.mean_bits < least:
            raise error
        return emit(classifier, rounded, profile, ranges)

    for module in (choice, nothing, write):
        monkeypatch.setattr(module, "emit", fails)


INTEGERS = ("--bits", "8,4", "--profile", "int8", "--max-drop", "30", "--allow-loss")


@pytest.mark.parametrize("error", [PlanError("cannot be divided"), ModelError("refused")])
def test_a_plan_that_integer_kernels_cannot_run_is_left_for_the_next(error, work, monkeypatch):
    name = type(error).__name__
    refuse_to_emit_below(monkeypatch, 8, error)
    result = run(*compress_command(work, f"{name}.onnx", *INTEGERS, "--json"))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["plan"]["mean_bits"] == 8
    assert f"left for the next: its file cannot be given: {error}" in result.stderr
    kept = onnxsemi.pareto(work / f"{name}.run").points
    assert f"its file cannot be given: {error}" in {point.rejected for point in kept}


def test_if_integer_kernels_can_run_none_another_profile_is_named(work, monkeypatch):
    with monkeypatch.context() as patched:
        refuse_to_emit_below(patched, 32, PlanError("cannot be divided"))
        result = run(*compress_command(work, "no_int8.onnx", *INTEGERS, "-q"))
    said = " ".join(result.stderr.split())
    assert result.exit_code == 4, result.output
    assert "can be written in --profile int8" in said
    assert "cannot be divided. Write it with: onnxsemi apply" in said
    words = shlex.split(said.partition("Write it with: onnxsemi ")[2])
    applied = run(*words[:-1], work / "other_form.onnx", "--allow-loss")
    assert applied.exit_code == 0, applied.output
    again = run(*compress_command(work, "no_int8.onnx", *INTEGERS, "--resume"))
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("profile", [Profile.INT8, Profile.NODES, Profile.NATIVE])
def test_nodes_that_share_a_weight_take_any_mix(profile, tmp_path):
    onnx.save(SHARED_WEIGHT.model(), tmp_path / "model.onnx")
    for name, seed in (("search", 1), ("report", 2)):
        save_noise(tmp_path / f"{name}.npz", count=60, seed=seed)
    paths = [tmp_path / name for name in ("model.onnx", "search.npz", "report.npz")]
    settings = Settings(
        search=SearchSettings(bits=(8, 4), max_drop=100),
        scheme=Scheme.SYMMETRIC,
        profile=profile,
        allow_loss=True,
        force=True,
    )
    output = tmp_path / "small.onnx"
    result = onnxsemi.compress(
        paths[0], paths[1], output=output, test_data=paths[2], settings=settings
    )
    assert result.plan.saved_parameters > 0
