"""``--rounding rate`` through the whole tool: searched, written, taken up again, applied, shown."""

import json

import onnx
import pytest
from command_line import assert_one_line, frontier_command, run
from residual_net import save_noise, save_residual_net

from onnxsemi import ReadOptions, RoundingSettings, SearchSettings, Settings
from onnxsemi._emit.bitwidths import bits_of
from onnxsemi._errors import SettingsError

pytestmark = pytest.mark.slow

MORE = ("--rounding", "rate", "--rounding-samples", "40", "--max-drop", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A net, compressed, and the JSON of that."""
    folder = tmp_path_factory.mktemp("rate")
    save_residual_net(folder / "model.onnx")
    for name, seed in (("search", 1), ("report", 2)):
        save_noise(folder / f"{name}.npz", count=70, seed=seed, labels=False)
    result = run(*frontier_command(folder, "small.onnx", *MORE, "--json"))
    assert result.exit_code == 0, result.output
    (folder / "small.json").write_text(result.stdout)
    return folder


def test_the_plan_has_widths_with_a_decimal_point(folder):
    plan = json.loads((folder / "small.plan.json").read_text())
    bits = {key for layer in plan["layers"].values() for key in layer["bits"]}
    assert all("." in each for each in bits - {"0", "32"})
    assert bits - {"0", "32"}
    assert plan["scheme"] == "symmetric"
    shown = json.loads((folder / "small.json").read_text())["plan"]["layers"]
    assert {str(b) for layer in shown.values() for b in layer} == bits


def test_layers_say_their_levels_and_what_their_codes_take(folder):
    plan = json.loads((folder / "small.plan.json").read_text())
    for layer in plan["layers"].values():
        if set(layer["bits"]) <= {"0", "32"}:
            continue
        assert layer["levels"] % 2 == 1
        widest = max(float(b) for b in layer["bits"] if b != "32")
        assert 0 <= layer["coded_bits"] < widest + 1


@pytest.mark.parametrize("lines", [3, 8, None])
def test_a_run_that_is_taken_up_again_gives_the_same_bytes(folder, lines):
    before = (folder / "small.onnx").read_bytes()
    journal = folder / "small.run" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    (folder / "small.onnx").unlink()
    result = run(*frontier_command(folder, "small.onnx", *MORE, "--resume", "-q"))
    assert result.exit_code == 0, result.output
    assert (folder / "small.onnx").read_bytes() == before


@pytest.mark.parametrize("profile", ["qdq", "fast", "dense", "native", "nodes", "fake", "int8"])
def test_the_plan_can_be_written_in_every_profile(folder, profile):
    """The same levels whatever stores them; in the run's own profile the same bytes."""
    out = folder / f"{profile}.onnx"
    command = ("apply", folder / "small.plan.json", folder / "model.onnx", "-o", out)
    data = ("--calibration-data", folder / "search.npz", "--profile", profile)
    result = run(*command, *data)
    assert result.exit_code == 0, result.output
    if profile == "qdq":
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()
    if profile != "fake":
        found = [b for bits in bits_of(onnx.load(out)).values() if bits for b in bits]
        assert set(found) <= {*range(9), 32}


def test_a_point_of_the_run(folder):
    listed = json.loads(run("pareto", folder / "small.run", "--json").stdout)["points"]
    smallest = min(listed, key=lambda point: point["mean_bits"])
    at = f"{100 * smallest['compression']:.2f}%"
    out = folder / "point.onnx"
    result = run("apply", folder / "small.run", "--at", at, "-o", out, "--allow-loss")
    assert result.exit_code == 0, result.output
    assert out.stat().st_size <= (folder / "small.onnx").stat().st_size


def test_pages_show_it(folder):
    assert run("report", folder / "small.run", "-o", folder / "page.html").exit_code == 0
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "0.25 bits" in page
    assert "levels" in page


def test_two_plans_differ_in_bits_as_they_are_read(folder):
    plan = json.loads((folder / "small.plan.json").read_text())
    name, layer = next(iter(plan["layers"].items()))
    plan["layers"][name]["bits"] = {"3.0": f"0-{layer['channels'] - 1}"}
    (folder / "other.plan.json").write_text(json.dumps(plan))
    shown = run("inspect", folder / "small.plan.json", folder / "other.plan.json", "--json").stdout
    moved = json.loads(shown)["layers"]
    assert {change["after"] for change in moved} == {"3.0"}


def test_a_plan_and_its_file_differ_in_nothing(folder):
    command = ("inspect", folder / "small.plan.json", folder / "small.onnx", "--json")
    assert not json.loads(run(*command).stdout)["layers"]


def test_channels_may_lose_all_weights(folder):
    bits = ("--bits", "3,1,0", "--per-layer")
    command = frontier_command(folder, "zero.onnx", *MORE, *bits, "--max-drop", "60", "--json")
    result = run(*command)
    assert result.exit_code == 0, result.output
    layers = json.loads(result.stdout)["plan"]["layers"]
    assert {b for bits in layers.values() for b in bits} <= {3.0, 1.0, 0}
    assert all(len(set(bits)) == 1 for bits in layers.values())


def test_threads_do_not_matter(folder):
    result = run(*frontier_command(folder, "again.onnx", *MORE, "--threads", "1", "-q"))
    assert result.exit_code == 0, result.output
    assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"2.2": "0-7"}, ("2.2 bits", "entropy-coded")),
            ({"2.0": "0-3", "4": "4-7"}, ("entropy-coded weights and whole ones",)),
        ],
    )
    def test_of_plans(self, folder, changed, words):
        plan = json.loads((folder / "small.plan.json").read_text())
        plan["layers"]["c1"]["bits"] = changed
        (folder / "bad.plan.json").write_text(json.dumps(plan))
        command = ("apply", folder / "bad.plan.json", folder / "model.onnx")
        assert_one_line(run(*command, "-o", folder / "bad.onnx"), "layer 'c1'", *words)
        assert not (folder / "bad.onnx").exists()

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (("--scheme", "asymmetric"), "--rounding rate needs symmetric grids"),
            (("--bits", "8,4"), "8 is outside 0 to 7"),
            (("--bits", "66"), "66 is outside 0 to 8"),
            (("--pin", "c1=66"), "66 bits"),
            (("--method", "semilayer"), "--method semilayer rounds"),
            (("--target", "web"), "--rounding rate: for --target"),
        ],
    )
    def test_of_options(self, folder, given, words):
        assert_one_line(run(*frontier_command(folder, "no.onnx", *MORE, *given)), words)

    def test_coded_widths_are_no_bits_to_ask_for(self):
        with pytest.raises(SettingsError, match="66 is outside 0 to 8"):
            SearchSettings(bits=(66,))


def test_settings_go_back_to_whole_bits():
    rate = Settings(model=ReadOptions(targets="all"), rounding=RoundingSettings(method="rate"))
    plain = Settings(search=rate.search, rounding=RoundingSettings())
    assert plain.search.bits == tuple(range(8, 0, -1))


def test_pinned_layers_keep_whole_bits(folder):
    command = frontier_command(folder, "pinned.onnx", *MORE, "--pin", "c1=8", "--json")
    layers = json.loads(run(*command).stdout)["plan"]["layers"]
    assert set(layers["c1"]) == {8}
    assert isinstance(layers["c1"][0], int)
    others = [bits for name, own in layers.items() if name != "c1" for bits in own]
    assert any(isinstance(bits, float) for bits in others)


@pytest.fixture(scope="module")
def dense(folder):
    """The same in profile dense, and the JSON of that."""
    result = run(*frontier_command(folder, "dense.onnx", *MORE, "--profile", "dense", "--json"))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_sizes_in_dense_are_those_of_the_words(folder, dense):
    held = json.loads(run("inspect", folder / "dense.onnx", "--json").stdout)["layers"]
    words = sum(group["code_bytes"] for layer in held for group in layer["groups"])
    smaller = 1 - 8 * words / (32 * dense["plan"]["target_parameters"])
    assert json.loads(run("inspect", folder / "dense.onnx", "--json").stdout)["sizes"][
        "targets"
    ] == pytest.approx(smaller)


def test_only_profiles_of_whole_bits_are_warned_of(folder, dense):
    asked, plain = "profile` dense", json.loads((folder / "small.json").read_text())["warnings"]
    assert any(asked in each for each in plain)
    assert not any(asked in each for each in dense["warnings"])
