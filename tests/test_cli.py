"""The commands as a user types them: what they print and what they write."""

import json
import re

import onnx
import pytest
from command_line import compress_command, run
from residual_net import residual_net, save_noise

import onnxsemi
from onnxsemi._cli import terminal


class TestHelp:
    @pytest.mark.parametrize("command", ["compress", "apply", "evaluate", "inspect", "bench"])
    def test_each_command_teaches_with_an_example(self, command):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert f"Example: onnxsemi {command}" in " ".join(result.output.split())

    def test_exit_codes_are_told(self):
        said = " ".join(run("--help").output.split())
        assert "Exit codes: 0 done; 1 the model" in said
        assert "2 wrong command line; 3 the test images show a loss" in said
        assert "4 no plan holds what was asked; 130 interrupted." in said

    def test_two_sizes(self):
        """Both tell of the same command; an option that the short one leaves out works as ever."""
        short, other, every = (
            run("compress", name).output for name in ("-h", "--help", "--help-all")
        )
        assert short == other
        for basic in ("--data", "--out", "--max-drop", "--strict", "--help-all"):
            assert basic in short
            assert basic in every
        for advanced in ("--ranges", "--bias-correction", "--min-agreement", "--pin"):
            assert advanced not in short
            assert advanced in every
        assert len(short.splitlines()) < 0.6 * len(every.splitlines())
        assert run("compress", "-h").output == short  # and shows it again as it was

    def test_version(self):
        result = run("--version")
        assert (result.exit_code, result.output) == (0, f"onnxsemi {onnxsemi.__version__}\n")

    def test_unknown_option_is_a_usage_error(self):
        assert run("compress", "--no-such-option").exit_code == 2


class TestCompress:
    def test_table_has_sizes_accuracy_and_how_to_load(self, folder):
        command = compress_command(folder, "again.onnx", "--verbose")
        output = " ".join(run(*command).output.split())
        for words in (
            "target weights (the paper's ratio)",
            "whole model",
            "file",
            "calib. 60",
            "test 40",
            "broken/fixed",
            "95 % interval",
            "verified bit for bit",
            "onnxsemi.load_session",
        ):
            assert words in output

    def test_the_short_table_begins_with_the_verdict_and_fits_a_screen(self, folder):
        result = run(*compress_command(folder, "again.onnx", "--max-drop", "40"))
        first = result.stdout.split(":")[0]
        assert first in ("Holds", "Unproven")
        assert len(result.stdout.splitlines()) <= 24
        for words in ("smaller (", "verified bit for bit", "pareto", "--verbose"):
            assert words in " ".join(result.stdout.split())
        assert "Spearman" not in result.stdout
        warned = [
            line for line in result.stderr.splitlines() if line.startswith("warning: unproven")
        ]
        assert bool(warned) == (first == "Unproven")

    def test_strict_is_an_exit_code(self, folder):
        """A verdict that is not shown is no success for whoever asks so."""
        command = compress_command(folder, "again.onnx", "--max-drop", "40", "--strict", "--json")
        result = run(*command)
        holds = json.loads(result.stdout)["verdict"]["outcome"] == "holds"
        assert result.exit_code == (0 if holds else 3)

    @pytest.mark.slow
    def test_same_bytes_again_whatever_the_threads(self, folder):
        for threads in (1, 3):
            run(*compress_command(folder, "again.onnx", "--threads", threads))
            for name in ("onnx", "plan.json"):
                again, first = (folder / f"{stem}.{name}" for stem in ("again", "small"))
                assert again.read_bytes() == first.read_bytes()

    def test_json_is_complete_and_alone_on_standard_output(self, folder):
        result = run(*compress_command(folder, "again.onnx", "--json"))
        document = json.loads(result.stdout)
        assert all(line.startswith("warning: ") for line in result.stderr.splitlines())
        assert document["sizes"]["bytes_after"] == (folder / "again.onnx").stat().st_size
        assert document["report"]["images"] == 40
        assert len(document["trials"]) == document["cost"]["trials"]
        assert {trial["decision"] for trial in document["trials"]} <= {
            "kept",
            "postponed",
            "quantized",
        }
        assert all(trial["reason"] for trial in document["trials"])
        chosen, held = document["chosen"], document["baseline"]["correct"]
        assert chosen["correct"] >= held
        assert document["search"]["correct_after"] == chosen["correct"]

    def test_quiet_prints_nothing_but_warnings(self, folder):
        result = run(*compress_command(folder, "again.onnx", "--quiet"))
        assert (result.exit_code, result.stdout) == (0, "")
        assert all(line.startswith("warning: ") for line in result.stderr.splitlines())

    def test_progress_names_the_phases_on_standard_error(self, folder, monkeypatch):
        monkeypatch.setattr(terminal, "MOMENT_SECONDS", 0)
        result = run(*compress_command(folder, "again.onnx"))
        for phase in ("Δloss", "KL", "fast against exact", "increasing phase, 8 bits"):
            assert phase in result.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [
            ("--bits", "7,5,3,2"),
            ("--order", "ascending"),
            ("--split", "none"),
            ("--scheme", "symmetric"),
            ("--targets", "all"),
            ("--targets", "conv", "--exclude", "sum*", "--exclude", "stem"),
            ("--pin", "c1=4", "--max-drop", "100"),
            ("--delta-loss-samples", "10", "--search-samples", "20", "--seed", "7"),
        ],
        ids=" ".join,
    )
    def test_options(self, folder, options):
        if "sum*" in options:
            options = tuple(o.replace("sum*", "short") for o in options)
        result = run(*compress_command(folder, "option.onnx", *options, "--json"))
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        layers = document["plan"]["layers"]
        if "--pin" in options:
            assert set(layers["c1"]) == {4}
        if "--exclude" in options:
            assert not {"stem", "short"} & set(layers)
        if "--search-samples" in options:
            assert (document["search"]["images"], document["sensitivity"]["images"]) == (20, 10)
        if "--split" in options:
            assert document["sensitivity"]["exact_delta_loss_bits"] == []

    @pytest.mark.slow
    def test_one_file_is_split_into_search_and_report(self, folder):
        command = ("compress", folder / "model.onnx", "-d", folder / "search.npz", "--force")
        result = run(*command, "-o", folder / "split.onnx", "--report-fraction", "0.25", "--json")
        document = json.loads(result.stdout)
        assert (document["search"]["images"], document["report"]["images"]) == (45, 15)

    @pytest.mark.slow
    def test_without_labels_agreement_is_reported_not_accuracy(self, folder):
        for name, seed in (("s", 1), ("r", 2)):
            save_noise(folder / f"{name}_unlabelled.npz", count=40, seed=seed, labels=False)
        command = ("compress", folder / "model.onnx", "--max-drop", 50)
        data = ("-d", folder / "s_unlabelled.npz", "--report-data", folder / "r_unlabelled.npz")
        result = run(*command, *data, "-o", folder / "unlabelled.onnx")
        assert result.exit_code == 0, result.output
        assert "agreement" in result.stdout
        assert "top-1" not in result.stdout

    def test_colour_is_for_terminals_and_can_be_turned_off(self, folder, monkeypatch):
        colours = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m")
        assert "\x1b" not in run("inspect", folder / "small.onnx").output
        for name in ("FORCE_COLOR", "NO_COLOR"):
            monkeypatch.setenv(name, "1")
        assert not colours.search(run("inspect", folder / "small.onnx").output)


class TestOtherCommands:
    def test_apply_gives_the_same_bytes_as_compress(self, folder):
        plan = folder / "small.plan.json"
        result = run("apply", plan, folder / "model.onnx", "-o", folder / "applied.onnx")
        assert result.exit_code == 0, result.output
        assert (folder / "applied.onnx").read_bytes() == (folder / "small.onnx").read_bytes()

    def test_apply_takes_an_edited_plan(self, folder, tmp_path):
        plan = json.loads((folder / "small.plan.json").read_text())
        plan["layers"]["c1"]["bits"] = {"32": "0", "3": "1-7"}
        (tmp_path / "edited.json").write_text(json.dumps(plan))
        data = ("--data", folder / "report.npz")
        out = tmp_path / "e.onnx"
        result = run(
            "apply", tmp_path / "edited.json", folder / "model.onnx", "-o", out, *data, "--json"
        )
        document = json.loads(result.stdout)
        assert document["plan"]["layers"]["c1"] == [32, *[3] * 7]
        assert document["report"]["images"] == 40
        groups = {layer.name: layer.groups for layer in onnxsemi.inspect(out).layers}["c1"]
        assert [(group.bits, group.channels) for group in groups] == [(32, 1), (3, 7)]

    def test_apply_knows_which_output_was_meant(self, folder, tmp_path):
        model = residual_net()
        pooled = onnx.helper.make_tensor_value_info("pooled", 1, ("N", 8, 1, 1))
        model.graph.output.append(pooled)
        onnx.save(model, tmp_path / "two.onnx")
        data = ("-d", folder / "search.npz", "--max-drop", "50", "--output", "scores", "--force")
        data = (*data, "--method", "semilayer")
        first = run("compress", tmp_path / "two.onnx", *data, "-o", tmp_path / "a.onnx")
        assert first.exit_code == 0, first.output
        plan = tmp_path / "a.plan.json"
        result = run("apply", plan, tmp_path / "two.onnx", "-o", tmp_path / "b.onnx")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()

    def test_layer_names_with_markup_are_shown_as_they_are(self, tmp_path):
        model = residual_net()
        for node, name in zip(model.graph.node, ("[/x]stem", "b[red]c1"), strict=False):
            node.name = name
        onnx.save(model, tmp_path / "markup.onnx")
        output = run("inspect", tmp_path / "markup.onnx").stdout
        assert "[/x]stem" in output

    def test_evaluate_against_the_float_model(self, folder):
        reference = ("--reference", folder / "model.onnx", "--force")
        data = ("--data", folder / "report.npz")
        result = run("evaluate", folder / "small.onnx", *data, *reference, "--json")
        found = json.loads(result.stdout)
        compressed = json.loads(run(*compress_command(folder, "x.onnx", "--json")).stdout)["report"]
        words = [part.pop("summary") for part in (found["comparison"], compressed)]
        assert found["comparison"] == compressed
        assert [line.replace("reference", "float model") for line in words[0]] == words[1]
        assert found["correct"] == compressed["correct_after"]
        assert compressed["kl_nats"] > 0
        assert "95 % interval" in run("evaluate", folder / "small.onnx", *data, *reference).stdout

    def test_inspect_float_model_says_why_layers_are_no_targets(self, folder):
        output = run("inspect", folder / "model.onnx", "--targets", "hidden").stdout
        for words in ("target", "stem", "projection shortcut", "Gemm"):
            assert words in output

    def test_inspect_compressed_file_shows_bits_and_bytes(self, folder):
        document = json.loads(run("inspect", folder / "small.onnx", "--json").stdout)
        assert document["properties"]["onnxsemi.profile"] == "qdq"
        plan = json.loads((folder / "small.plan.json").read_text())["layers"]
        stored = {layer["name"]: layer for layer in document["layers"]}
        for name, entry in plan.items():
            bits = [int(bits) for bits in entry["bits"] if bits != "32"]
            found = [group["bits"] for group in stored[name]["groups"] if group["bits"] != 32]
            assert found == sorted(bits, reverse=True)
