"""``compress`` by the frontier, and what becomes of its plans, as a user types it."""

import json
import shutil

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, frontier_command, run
from residual_net import save_noise, save_residual_net

from onnxsemi._emit.profile import Profile

pytestmark = pytest.mark.slow

SMALL = ("--bits", "8,4,2", "--rounding-samples", "40", "--max-drop", "1")


def compress(folder, out, *more, **inputs):
    return run(*frontier_command(folder, out, *SMALL, *more, **inputs))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Inputs, a compressed file with its plan, and the JSON document of it."""
    folder = tmp_path_factory.mktemp("frontier")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=70, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    result = compress(folder, "small.onnx", "--json")
    assert result.exit_code == 0, result.output
    (folder / "small.json").write_text(result.stdout)
    return folder


@pytest.fixture
def folder(done, tmp_path):
    return shutil.copytree(done, tmp_path / "copy")


def apply(folder, out, *more, plan="small.plan.json", images="search.npz"):
    given = () if images is None else ("--calibration-data", folder / images)
    return run("apply", folder / plan, folder / "model.onnx", "-o", folder / out, *given, *more)


class TestCompress:
    def test_says_what_it_did(self, done):
        document = json.loads((done / "small.json").read_text())
        assert {trial["phase"] for trial in document["trials"]} >= {"frontier"}
        assert all(trial["reason"] for trial in document["trials"])
        kept = [t["compression"] for t in document["trials"] if t["decision"] == "kept"]
        assert document["chosen"]["compression"] == max(kept)
        assert document["plan"]["layers"].keys() == {
            *("stem", "c1", "c2", "short", "dw", "tied1", "scores")
        }

    def test_fits_a_terminal(self, folder):
        result = compress(folder, "again.onnx")
        assert result.exit_code == 0, result.output
        assert max(map(len, result.stdout.splitlines())) <= 80

    def test_integer_kernels(self, folder):
        result = compress(folder, "int8.onnx", "--profile", "int8", "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert document["kernels"]["integer"]
        again = apply(folder, "int8_again.onnx", "--profile", "int8", plan="int8.plan.json")
        assert again.exit_code == 0, again.output
        written = [(folder / f"{n}.onnx").read_bytes() for n in ("int8", "int8_again")]
        assert written[0] == written[1]

    @pytest.mark.parametrize(
        "options",
        [
            ("--ranges", "minmax"),
            ("--ranges", "mse"),
            ("--rounding", "nearest"),
            ("--inputs", "float"),
            ("--scheme", "symmetric"),
            ("--align", "4"),
            ("--pin", "c1=6", "--exclude", "short"),
            ("--bits", "6,3"),
            ("--bits", "8,4,2,1,0"),
            ("--bits", "8,1,0", "--no-bias-correction"),
            ("--bits", "8,1,0", "--inputs", "float", "--scheme", "symmetric"),
            ("--delta-loss", "exact", "--delta-loss-samples", "20"),
        ],
        ids=" ".join,
    )
    def test_every_setting_changes_the_file_and_applies_again(self, folder, options):
        result = compress(folder, "other.onnx", *options, "-q")
        assert result.exit_code == 0, result.output
        other = (folder / "other.onnx").read_bytes()
        again = apply(folder, "again.onnx", plan="other.plan.json")
        assert again.exit_code == 0, again.output
        assert (folder / "again.onnx").read_bytes() == other
        if not {"--delta-loss", "--align"} & set(options):
            assert other != (folder / "small.onnx").read_bytes()

    def test_without_labels(self, folder):
        for name, seed in (("s.npz", 1), ("report.npz", 2)):
            save_noise(folder / name, count=70, seed=seed, labels=False)
        result = compress(folder, "free.onnx", data="s.npz")
        assert result.exit_code == 0, result.output
        assert "agreement" in result.stdout
        assert "top-1" not in result.stdout

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--tolerance", "0"), "--tolerance: 0.0 is outside"),
            (("--tries", "-1"), "--tries: -1 must be 0 or more"),
            (("--rounding-samples", "0"), "--rounding-samples: 0 must be 1 or more"),
            (("--bits", "0"), "--bits: 0 alone leaves no weights"),
            (("--bits", "8,-1"), "--bits: -1 is outside 0 to 8"),
            (("--bits", "8,0", "--pin", "c1=0"), "--pin: 0 bits; allowed are 1 to 8"),
            (("--method", "semilayer", "--bits", "4,0"), "0 bits are for --method frontier"),
            (("--split", "none"), "--split none: is for --method semilayer"),
            (("--method", "semilayer", "--ranges", "mse"), "are for --method frontier"),
            (("--method", "semilayer", "--no-bias-correction"), "are for --method frontier"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_settings_that_cannot_be(self, folder, options, words):
        command = list(frontier_command(folder, "no.onnx", *options, "-q"))
        if "semilayer" in options:
            place = command.index("frontier")
            del command[place - 1 : place + 1]
        assert_one_line(run(*command), words)
        assert not (folder / "no.onnx").exists()

    def test_nothing_holds(self, folder):
        """Labels that the float model all gets right, and one bit that breaks many answers."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (400, 8, 8, 3), np.uint8)
        np.savez(folder / "hard.npz", x=images, mean=np.float32(0.5), std=np.float32(0.25))
        command = ("compress", folder / "model.onnx", "-d", folder / "hard.npz", "--bits", "1")
        found = run(*command, "-o", folder / "no.onnx", "-q")
        assert_one_line(found, "nothing holds a drop of at most 0 points", code=4)
        assert not (folder / "no.onnx").exists()


class TestApply:
    def test_gives_the_same_bytes(self, folder):
        assert apply(folder, "again.onnx").exit_code == 0
        assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()

    def test_images_among_others_and_in_another_order(self, folder):
        save_noise(folder / "more.npz", count=30, seed=7)
        with np.load(folder / "search.npz") as one, np.load(folder / "more.npz") as other:
            parts = {name: np.concatenate([other[name], one[name][::-1]]) for name in "xy"}
            np.savez(folder / "mixed.npz", **parts, mean=one["mean"], std=one["std"])
        assert apply(folder, "again.onnx", "--threads", "3", images="mixed.npz").exit_code == 0
        assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()

    @pytest.mark.parametrize("profile", ["fast", "nodes", "fake"])
    def test_other_profiles_give_the_same_logits(self, folder, profile):
        result = apply(folder, "other.onnx", "--profile", profile)
        if profile == "nodes" and result.exit_code:  # the depthwise layer has several bitwidths
            assert_one_line(result, "grouped convolution")
            return
        assert result.exit_code == 0, result.output
        data = ("--data", folder / "report.npz", "--json", "--force")
        small = folder / "small.onnx"
        found = run("evaluate", folder / "other.onnx", "--reference", small, *data)
        assert json.loads(found.stdout)["comparison"]["kl_nats"] < 1e-9

    def test_an_edited_plan(self, folder):
        plan = json.loads((folder / "small.plan.json").read_text())
        plan["layers"]["c1"]["bits"] = {"8": "0-3", "1": "4-7"}
        (folder / "edited.plan.json").write_text(json.dumps(plan))
        assert apply(folder, "edited.onnx", plan="edited.plan.json").exit_code == 0
        found = json.loads(run("inspect", folder / "edited.onnx", "--json").stdout)["layers"]
        groups = next(layer["groups"] for layer in found if layer["name"] == "c1")
        assert [(g["bits"], g["channels"]) for g in groups] == [(8, 4), (1, 4)]

    @pytest.mark.parametrize("profile", Profile)
    def test_a_plan_with_channels_and_a_layer_at_0_bits(self, folder, profile):
        plan = json.loads((folder / "small.plan.json").read_text())
        for name, layer in plan["layers"].items():
            last = layer["channels"] - 1
            layer["bits"] = {"3": f"0-{last - 2}", "0": f"{last - 1}-{last}"}
            if name in ("short", "dw"):
                layer["bits"] = {"0": f"0-{last}"}
        if profile.quantizes_activations:
            plan["scheme"] = "symmetric"
        (folder / "zero.plan.json").write_text(json.dumps(plan))
        result = apply(folder, "zero.onnx", "--profile", profile, plan="zero.plan.json")
        assert result.exit_code == 0, result.output  # verified
        if profile is Profile.FAKE:
            return
        found = json.loads(run("inspect", folder / "zero.onnx", "--json").stdout)["layers"]
        groups = {layer["name"]: layer["groups"] for layer in found}
        assert [(g["bits"], g["channels"]) for g in groups["c1"]] == [(3, 6), (0, 2)]
        assert [(g["bits"], g["channels"]) for g in groups["dw"]] == [(0, 8)]
        zeros = [g for layer in groups.values() for g in layer if g["bits"] == 0]
        assert {g["code_bytes"] for g in zeros} == {0}
        if not profile.quantizes_activations:
            assert {g["scale_bytes"] for g in zeros} == {0}
        compared = run("inspect", folder / "zero.onnx", folder / "zero.plan.json", "--json")
        assert json.loads(compared.stdout)["layers"] == []

    def test_without_the_images(self, folder):
        assert_one_line(apply(folder, "no.onnx", images=None), "35 images", "--calibration-data")
        assert not (folder / "no.onnx").exists()

    def test_other_images(self, folder):
        assert_one_line(apply(folder, "no.onnx", images="report.npz"), "35 of the 35 images")
        plan = json.loads((folder / "small.plan.json").read_text())
        plan["rounding"]["images"] = ""
        (folder / "any.plan.json").write_text(json.dumps(plan))
        result = apply(folder, "any.onnx", plan="any.plan.json", images="report.npz")
        assert result.exit_code == 0, result.output

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"ranges": "widest"}, ("'widest'", "rounding.ranges")),
            ({"method": 3}, ("`int`", "rounding.method")),
            ({"seed": "x"}, ("`str`", "rounding.seed")),
            ({"unknown": 1}, ("unknown field `unknown`", "rounding")),
        ],
        ids=["ranges", "method", "seed", "unknown"],
    )
    def test_a_plan_that_does_not_say_how(self, folder, change, said):
        plan = json.loads((folder / "small.plan.json").read_text())
        plan["rounding"] |= change
        (folder / "bad.plan.json").write_text(json.dumps(plan))
        result = apply(folder, "no.onnx", plan="bad.plan.json")
        assert_one_line(result, *said, "docs/plan.md")

    def test_weights_are_on_few_levels(self, folder):
        """From the file alone: a channel of b bits has no more than 2^b values."""
        assert apply(folder, "fake.onnx", "--profile", "fake").exit_code == 0
        plan = json.loads((folder / "small.plan.json").read_text())["layers"]
        model = onnx.load(folder / "fake.onnx")
        nodes = {node.name: node.input[1] for node in model.graph.node if len(node.input) > 1}
        weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        for name in ("stem", "c1", "dw"):
            widest = max(int(bits) for bits in plan[name]["bits"])
            for channel in weights[nodes[name]]:
                assert len(np.unique(channel)) <= 2**widest


class TestRuns:
    def test_damaged_codes(self, folder):
        run_folder = folder / "small.run"
        (run_folder / "rounding.npz").write_bytes(b"PK")
        (folder / "small.onnx").unlink()
        assert_one_line(compress(folder, "small.onnx", "--resume", "-q"), "rounding.npz", "damaged")

    def test_codes_are_computed_again_if_they_are_lost(self, folder):
        before = (folder / "small.onnx").read_bytes()
        (folder / "small.run" / "rounding.npz").unlink()
        (folder / "small.onnx").unlink()
        assert compress(folder, "small.onnx", "--resume", "-q").exit_code == 0
        assert (folder / "small.onnx").read_bytes() == before
