"""A plan whose file cannot be written, or is not what was measured, is left for the next one."""

import json

import onnx
import pytest
from command_line import compress_command, run
from onnx_models import HEAD, SAME, Net, conv, head_shapes
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import Profile, Scheme, SearchSettings, Settings
from onnxsemi.errors import VerificationError
from onnxsemi.pipeline import write

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

    def fails(path, bench, rounded, ranges=None):
        if rounded.plan.mean_bits < least:
            raise VerificationError(f"{path}: the logits are others")
        verify(path, bench, rounded, ranges)

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
        paths[0], paths[1], output=output, report_data=paths[2], settings=settings
    )
    assert result.plan.saved_parameters > 0
