"""``inspect A B``: what differs; and which channel of a written file has which bitwidth."""

import json

import onnx
import pytest
from command_line import assert_one_line, compress_command, run
from onnx_models import NETS
from residual_net import save_noise, save_residual_net

from onnxsemi._emit.bitwidths import bits_of
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._errors import ModelError, PlanError
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded

MIXES = {
    "mixed": lambda c: (8, 4, 32, 1, 3)[c % 5],
    "no float": lambda c: (2, 5, 8)[c % 3],
    "in order": lambda c: 8 if c < 3 else 2,
    "float": lambda _: 32,
    "zeros": lambda c: (0, 8, 0, 3, 32)[c % 5],
    "no weights": lambda _: 0,
}
STORING = [p for p in Profile if p is not Profile.FAKE and not p.quantizes_activations]


@pytest.mark.slow
@pytest.mark.parametrize("profile", STORING)
@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_bits_are_read_back_from_the_file(tmp_path, net, mix, profile):
    onnx.save(net.model(), tmp_path / "net.onnx")
    classifier = read_model(tmp_path / "net.onnx", ReadOptions(targets="all"))
    layers = classifier.layers
    bits = {layer.name: tuple(map(mix, range(layer.channels))) for layer in layers}
    plan = BitPlan(bits, {layer.name: layer.channel_params for layer in layers})
    codes = rounded(layers, plan, Nearest(Scheme.ASYMMETRIC))
    try:
        found = bits_of(emit(classifier, codes, profile))
    except PlanError:
        assert profile is Profile.NODES  # cannot divide grouped convolutions
        return
    for layer, expected in bits.items():
        assert found[layer] == (None if set(expected) == {32} else expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two compressed files with their plans, and an edited plan."""
    folder = tmp_path_factory.mktemp("compare")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=60, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    for name, more in (
        ("a", ()),
        ("b", ("--pin", "c1=3", "--exclude", "dw")),
        ("n", ("--profile", "nodes", "--exclude", "dw")),
        ("f", ("--profile", "fake")),
        ("i", ("--profile", "int8")),
    ):
        result = run(*compress_command(folder, f"{name}.onnx", "--max-drop", "3", *more, "-q"))
        assert result.exit_code == 0, result.output
    document = json.loads((folder / "a.plan.json").read_text())
    document["layers"]["c2"]["bits"] = {"8": "0-1,5", "2": "2-4,6-7"}
    (folder / "edited.plan.json").write_text(json.dumps(document))
    return folder


def compared(folder, first, second):
    result = run("inspect", folder / first, folder / second, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class TestInspectTwo:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("a.plan.json", "a.plan.json"),
            ("a.onnx", "a.onnx"),
            ("a.plan.json", "a.onnx"),
            ("a.onnx", "a.plan.json"),
            ("b.plan.json", "b.onnx"),
            ("n.plan.json", "n.onnx"),
            ("i.plan.json", "i.onnx"),
        ],
    )
    def test_no_difference(self, folder, first, second):
        assert compared(folder, first, second)["same"] is True
        result = run("inspect", folder / first, folder / second)
        assert "no difference" in result.stdout
        assert run("inspect", folder / first, folder / second, "-q").output == ""

    def test_an_edited_plan(self, folder):
        before = json.loads((folder / "a.plan.json").read_text())["layers"]["c2"]["bits"]
        found = compared(folder, "a.plan.json", "edited.plan.json")
        assert not found["same"]
        assert found["settings"] == {}
        assert {entry["layer"] for entry in found["layers"]} == {"c2"}
        moved = {(e["before"], e["after"]) for e in found["layers"]}
        assert moved <= {(b, a) for b in before for a in ("8", "2") if a != b}
        shown = run("inspect", folder / "a.plan.json", folder / "edited.plan.json").stdout
        assert "c2" in shown
        assert max(map(len, shown.splitlines()[1:])) <= 80

    def test_two_files(self, folder):
        found = compared(folder, "a.onnx", "b.onnx")
        assert "content" in found["settings"]
        assert "file bytes" in found["settings"]
        assert {e["after"] for e in found["layers"] if e["layer"] == "c1"} <= {"3"}

    def test_a_layer_that_is_in_one_plan_only(self, folder):
        found = compared(folder, "a.plan.json", "b.plan.json")
        gone = next(entry for entry in found["layers"] if entry["layer"] == "dw")
        assert (gone["before"], gone["after"]) == ("8 channels", "not there")
        assert found["settings"]["exclude"] == ["none", "dw"]

    def test_settings(self, folder):
        found = compared(folder, "a.onnx", "i.onnx")
        assert found["settings"]["profile"] == ["qdq", "int8"]
        assert found["settings"]["scheme"] == ["asymmetric", "symmetric"]

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            ("model.onnx", "was not written by onnxsemi"),
            ("f.onnx", "profile fake"),
            ("absent.onnx", "no such file"),
            ("absent.json", "cannot be read"),
            ("search.npz", "search.npz"),
        ],
    )
    def test_files_that_cannot_be_compared(self, folder, other, words):
        assert_one_line(run("inspect", folder / "a.onnx", folder / other), words)

    def test_a_changed_file(self, folder):
        model = onnx.load(folder / "a.onnx")
        node = next(n for n in model.graph.node if n.name == "c2")
        node.input[1] = "nowhere"
        with pytest.raises(ModelError, match="'c2' was changed"):
            bits_of(model)
