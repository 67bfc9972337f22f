"""What a run keeps of its frontier: listed by ``pareto``, written by ``apply RUN --at``."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from command_line import assert_one_line, compress_command, frontier_command, run
from hypothesis import given, settings
from hypothesis import strategies as st
from residual_net import save_noise, save_residual_net
from rich.console import Console

from onnxsemi._data.load import DataOptions
from onnxsemi._errors import SettingsError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._report.pareto import pareto_table
from onnxsemi._run.folder import MadeOf, open_run
from onnxsemi._run.frontier import KeptFrontier, KeptPoint, Source, by_size
from onnxsemi._run.frontier_file import read_frontier, write_frontier
from onnxsemi._run.plan_file import PlanFile, layers_of, read_plan
from onnxsemi._run.point_choice import At, text_of
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._stats.paired import Paired

pytestmark = pytest.mark.slow

SMALL = ("--rounding-samples", "40", "--max-drop", "1")


def inputs(folder):
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=70, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run of the frontier, and one of the paper's method."""
    folder = inputs(tmp_path_factory.mktemp("pareto"))
    for result in (
        run(*frontier_command(folder, "small.onnx", *SMALL, "-q")),
        run(*compress_command(folder, "paper.onnx", "--max-drop", "3", "-q")),
    ):
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(done, tmp_path):
    """The runs, with model and images."""
    return shutil.copytree(done, tmp_path / "runs")


def listed(path):
    result = run("pareto", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def chosen_of(document):
    return next(point for point in document["points"] if point["chosen"])


def apply_at(folder, at, *more, name="small", out="at.onnx"):
    return run("apply", folder / f"{name}.run", "--at", at, "-o", folder / out, *more)


class TestList:
    @pytest.mark.parametrize("name", ["small", "paper"])
    def test_every_point_says_what_is_known_of_it(self, done, name):
        document = listed(done / f"{name}.run")
        compression = [point["compression"] for point in document["points"]]
        assert compression == sorted(compression)
        measured = [p for p in document["points"] if p["correct"] is not None]
        assert sum(point["chosen"] for point in document["points"]) == 1
        assert chosen_of(document)["file_bytes"] == (done / f"{name}.onnx").stat().st_size
        for point in measured:
            assert point["change"] == pytest.approx(
                (point["correct"] - document["float_correct"]) / 70, abs=1e-12
            )
        points_between = [p for p in document["points"] if p["correct"] is None]
        assert all(p["predicted_kl_nats"] >= 0 and p["phase"] == "stop" for p in points_between)
        assert bool(points_between) == (name == "small")

    def test_rejected_plans_are_kept_too(self, done):
        document = listed(done / "small.run")
        rejected = [point for point in document["points"] if point["rejected"]]
        assert all(point["search"]["images"] == 70 for point in rejected)
        assert not chosen_of(document)["rejected"]

    def test_dominated_points_are_shown_with_all_only(self, done):
        every = listed(done / "small.run")["points"]
        short = run("pareto", done / "small.run").stdout
        long = run("pareto", done / "small.run", "--all").stdout
        assert "more with --all" in short
        assert "more with --all" not in long
        rows = [line for line in long.splitlines() if "~" in line or line.startswith("*")]
        assert len(rows) == len(every) + 1  # the legend has a ~ too
        assert len(short.splitlines()) < len(long.splitlines())

    @pytest.mark.parametrize("name", ["small", "paper"])
    def test_fits_a_terminal(self, done, name):
        for more in ((), ("--all",)):
            shown = run("pareto", done / f"{name}.run", *more).stdout
            assert max(map(len, shown.splitlines())) <= 80
            assert "*" in shown

    def test_quiet(self, done):
        result = run("pareto", done / "small.run", "-q")
        assert (result.exit_code, result.output) == (0, "")

    def test_without_labels_it_speaks_of_agreement_only(self, tmp_path):
        folder = inputs(tmp_path)
        for name, seed in (("search.npz", 1), ("report.npz", 2)):
            save_noise(folder / name, count=70, seed=seed, labels=False)
        result = run(*frontier_command(folder, "free.onnx", *SMALL, "-q"))
        assert result.exit_code == 0, result.output
        shown = run("pareto", folder / "free.run").stdout
        assert "Same answers" in shown
        assert "top-1" not in shown.lower()
        assert "agreement" in chosen_of(listed(folder / "free.run"))["search"]


class TestApplyAt:
    @pytest.mark.parametrize("name", ["small", "paper"])
    def test_the_chosen_point_gives_the_same_bytes(self, folder, name):
        compression = chosen_of(listed(folder / f"{name}.run"))["compression"]
        shown = f"{100 * compression:.2f}%"
        for at in (shown, f"{100 * compression}%"):
            result = apply_at(folder, at, name=name)
            assert result.exit_code == 0, result.output
            assert (folder / "at.onnx").read_bytes() == (folder / f"{name}.onnx").read_bytes()
        assert (
            read_plan(folder / "at.plan.json").bits == read_plan(folder / f"{name}.plan.json").bits
        )

    def test_without_at_it_is_the_chosen_one(self, folder):
        result = run("apply", folder / "small.run", "-o", folder / "same.onnx", "-q")
        assert result.exit_code == 0, result.output
        assert (folder / "same.onnx").read_bytes() == (folder / "small.onnx").read_bytes()

    @pytest.mark.parametrize("name", ["rounding.npz", "frontier.json", "safer.onnx"])
    def test_not_into_the_run(self, folder, name):
        """Its own files would be gone, and the plan's place is beside the output."""
        before = {p.name: p.read_bytes() for p in (folder / "small.run").iterdir()}
        result = run("apply", folder / "small.run", "-o", folder / "small.run" / name, "-q")
        assert_one_line(result, "is the run's folder", name)
        assert {p.name: p.read_bytes() for p in (folder / "small.run").iterdir()} == before

    def test_no_such_run(self, folder):
        result = run("apply", folder / "typo.run", "--at", "85%", "-o", folder / "no.onnx")
        assert_one_line(result, "typo.run: there is no such plan, and no such folder of a run")

    def test_without_the_rounding_table_too(self, folder):
        (folder / "small.run" / "rounding.npz").unlink()
        result = run("apply", folder / "small.run", "-o", folder / "same.onnx", "-q")
        assert result.exit_code == 0, result.output
        assert (folder / "same.onnx").read_bytes() == (folder / "small.onnx").read_bytes()

    def test_a_stop_that_was_not_measured(self, folder, done):
        result = apply_at(folder, "80%")
        assert result.exit_code == 0, result.output
        assert "not measured by the search" in result.stdout
        assert "measures it" not in result.stdout  # the test images of the run just did
        document = json.loads(
            apply_at(folder, "80%", "--json", "--data", done / "report.npz").stdout
        )
        assert document["plan"]["compression"] >= 0.8 - 5e-5
        points = listed(folder / "small.run")["points"]
        least = min(p["predicted_kl_nats"] for p in points if p["compression"] >= 0.8 - 5e-5)
        picked = next(p for p in points if p["compression"] == document["plan"]["compression"])
        assert picked["predicted_kl_nats"] == least
        assert document["report"]["images"] == 40
        # estimated, so near what it came to as a file of few weights allows: most is structure
        assert picked["file_bytes"] == pytest.approx(document["sizes"]["bytes_after"], rel=0.25)

    def test_the_plan_beside_it_gives_the_same_bytes(self, folder, done):
        assert apply_at(folder, "85%", "-q").exit_code == 0
        images = ("--calibration-data", done / "search.npz")
        again = folder / "again.onnx"
        plan = folder / "at.plan.json"
        result = run("apply", plan, done / "model.onnx", "-o", again, *images)
        assert result.exit_code == 0, result.output
        assert "edited" not in result.stdout
        assert again.read_bytes() == (folder / "at.onnx").read_bytes()

    @pytest.mark.parametrize("name", ["small", "paper"])
    def test_points_of_accuracy(self, folder, name):
        points = [p for p in listed(folder / f"{name}.run")["points"] if p["change"] is not None]
        for allowed in {100 * point["change"] for point in points}:
            holding = [p for p in points if 100 * p["change"] >= allowed - 1e-9]
            result = apply_at(folder, str(allowed), "--json", name=name)
            assert result.exit_code == 0, result.output
            found = json.loads(result.stdout)["plan"]["compression"]
            assert found == max(p["compression"] for p in holding)

    def test_integer_kernels(self, tmp_path):
        folder = inputs(tmp_path)
        command = frontier_command(folder, "int8.onnx", *SMALL, "--profile", "int8", "-q")
        assert run(*command).exit_code == 0
        shown = run("pareto", folder / "int8.run").stdout
        assert "8-bit ones" in " ".join(shown.split())
        result = apply_at(folder, "0%", "--profile", "int8", "-q", name="int8")
        assert result.exit_code == 0, result.output
        same = run("apply", folder / "int8.run", "-o", folder / "same.onnx", "--profile", "int8")
        assert same.exit_code == 0, same.output
        assert (folder / "same.onnx").read_bytes() == (folder / "int8.onnx").read_bytes()

    def test_a_run_that_has_moved_with_its_model_and_images(self, tmp_path):
        """Also those of a command with whole paths: nothing in the run is one."""
        before = tmp_path / "before"
        before.mkdir()
        folder = inputs(before)
        assert run(*frontier_command(folder, "small.onnx", *SMALL, "-q")).exit_code == 0
        after = folder.rename(tmp_path / "after")
        result = run("apply", after / "small.run", "-o", after / "at.onnx")
        assert result.exit_code == 0, result.output
        assert (after / "at.onnx").read_bytes() == (after / "small.onnx").read_bytes()
        assert str(tmp_path) not in (after / "small.run/frontier.json").read_text()

    def test_images_and_model_that_have_not_moved_with_it(self, tmp_path):
        before = tmp_path / "before"
        before.mkdir()
        folder = inputs(before)
        assert run(*frontier_command(folder, "small.onnx", *SMALL, "-q")).exit_code == 0
        after = tmp_path / "else" / "where"
        after.mkdir(parents=True)
        (folder / "small.run").rename(after / "small.run")
        assert_one_line(apply_at(after, "85%"), "model is not there any more")
        model = folder / "model.onnx"
        command = ("apply", after / "small.run", model, "-o", after / "at.onnx")
        assert_one_line(run(*command), "give the images that were searched on")
        assert not (after / "at.onnx").exists()
        result = run(*command, "--calibration-data", folder / "search.npz")
        assert result.exit_code == 0, result.output
        assert (after / "at.onnx").read_bytes() == (folder / "small.onnx").read_bytes()


class TestRefusals:
    @pytest.mark.parametrize(
        ("at", "words"),
        [
            ("99.9%", "the run reaches from"),
            ("-1%", "the run reaches from"),
            ("85", "a compression is written with %"),
            ("many", "--at: 'many' is neither"),
            ("1e3%", "is neither"),
            ("", "is neither"),
        ],
    )
    def test_points_that_are_none(self, folder, at, words):
        assert_one_line(apply_at(folder, at), words)
        assert not (folder / "at.onnx").exists()
        assert not (folder / "at.plan.json").exists()

    def test_at_of_a_plan(self, done):
        plan, model = done / "small.plan.json", done / "model.onnx"
        result = run("apply", plan, model, "--at", "85%", "-o", done / "no.onnx")
        assert_one_line(result, "--at: is for the folder of a run")

    def test_a_plan_without_its_model(self, done):
        result = run("apply", done / "small.plan.json", "-o", done / "no.onnx")
        assert result.exit_code == 2
        assert "MODEL" in result.output

    def test_another_model(self, folder, tmp_path):
        other = save_residual_net(tmp_path / "other.onnx", seed=5)
        result = run("apply", folder / "small.run", other, "-o", folder / "no.onnx")
        assert_one_line(result, "made for another model")

    def test_other_images(self, folder, tmp_path):
        other = save_noise(tmp_path / "other.npz", count=70, seed=9)
        result = apply_at(folder, "85%", "--calibration-data", other)
        assert_one_line(result, "are not in")

    @pytest.mark.parametrize("command", [("pareto",), ("apply", "-o", "no.onnx")], ids=str)
    def test_folders_that_hold_no_frontier(self, folder, command):
        name, *more = command
        (folder / "small.run" / "frontier.json").unlink()
        assert_one_line(run(name, folder / "small.run", *more), "holds no frontier.json")

    def test_no_folder(self, folder):
        assert_one_line(run("pareto", folder / "absent.run"), "there is no such folder")
        assert_one_line(run("pareto", folder / "small.onnx"), "is no folder")

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text[: len(text) // 2],
            lambda text: text.replace('"chosen": false', '"chosen": true'),
            lambda text: text.replace('"weights"', '"wheights"'),
            lambda text: text.replace('"kl": 0.', '"kl": 1.', 1),
            lambda _: "[]",
            lambda _: "[" * 100_000,
        ],
    )
    def test_damaged_files(self, folder, change):
        path = folder / "small.run" / "frontier.json"
        path.write_text(change(path.read_text()))
        assert_one_line(run("pareto", folder / "small.run"), "frontier.json: is damaged", "resume")

    @pytest.mark.parametrize("name", ["frontier.json", "rounding.npz"])
    def test_files_of_another_run(self, folder, tmp_path, name):
        other = inputs(tmp_path)
        command = frontier_command(other, "small.onnx", *SMALL, "-q", "--seed", "1")
        assert run(*command).exit_code == 0
        shutil.copy(other / "small.run" / name, folder / "small.run" / name)
        assert_one_line(apply_at(folder, "85%"), f"{name}: is of another run")

    def test_a_damaged_rounding_table(self, folder):
        (folder / "small.run" / "rounding.npz").write_bytes(b"PK no")
        assert_one_line(apply_at(folder, "85%"), "rounding.npz: is damaged", "delete it")

    def test_a_run_that_never_began_leaves_what_was_kept(self, tmp_path):
        folder = inputs(tmp_path)
        assert run(*frontier_command(folder, "small.onnx", *SMALL, "-q")).exit_code == 0
        cut_short = frontier_command(folder, "small.onnx", *SMALL, "--time-budget", "0.000001s")
        assert run(*cut_short).exit_code == 1
        assert (folder / "small.run" / "frontier.json").exists()


class TestEdited:
    def edit(self, path):
        document = json.loads(path.read_text())
        document["layers"]["c1"]["bits"] = {"8": "0-7"}
        path.write_text(json.dumps(document, indent=4))

    def test_it_is_said(self, folder, done):
        plan = folder / "small.plan.json"
        self.edit(plan)
        out, images = folder / "edited.onnx", ("--calibration-data", done / "search.npz")
        command = ("apply", plan, done / "model.onnx", "-o", out, *images)
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert "The plan was edited" in result.stdout
        assert json.loads(run(*command, "--json").stdout)["plan_edited"] is True
        stated = {p.key: p.value for p in onnx.load(out).metadata_props}
        assert stated["onnxsemi.plan_edited"] == "true"
        assert "plan_edited: true" in run("inspect", out).stdout

    def test_another_layout_of_the_text_is_no_edit(self, folder, done):
        plan = folder / "small.plan.json"
        plan.write_text(json.dumps(json.loads(plan.read_text()), sort_keys=True))
        out, images = folder / "same.onnx", ("--calibration-data", done / "search.npz")
        result = run("apply", plan, done / "model.onnx", "-o", out, *images)
        assert "edited" not in result.stdout
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()


@pytest.mark.parametrize("method", ["frontier", "semilayer"])
def test_pins_and_exclusions_are_kept_to_and_said(tmp_path, method):
    folder = inputs(tmp_path)
    given = ("--pin", "c1=6", "--pin", "t*=32", "--exclude", "short", "--max-drop", "3")
    samples = ("--rounding-samples", "40") if method == "frontier" else ()
    layers = ("--method", method, "--targets", "all")
    command = compress_command(folder, "p.onnx", *layers, *given, *samples)
    result = run(*command)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "Pinned, not searched: c1 (6 bits), tied1 (32 bits)." in said
    assert "Excluded, left float32: short." in said
    document = json.loads(run(*command, "--json").stdout)
    assert document["pinned"] == {"c1": 6, "tied1": 32}
    assert {"layer": "short", "reason": "excluded by 'short'"} in document["skipped"]
    for point in read_frontier(folder / "p.run").points:
        assert set(point.plan.bits["c1"]) == {6}
        assert set(point.plan.bits["tied1"]) == {32}
        assert "short" not in point.plan.bits


PARAMS = {"a": 18, "b": 5}


def point(*bits, correct=None, predicted=None, chosen=False):
    plan = BitPlan({"a": bits[:3], "b": bits[3:]}, PARAMS)
    return KeptPoint(
        plan=plan, correct=correct, predicted=predicted, chosen=chosen, file_bytes=sum(bits)
    )


def kept(*points, options=None):
    chosen = next(p for p in points if p.chosen)
    document = PlanFile(
        model="model", targets="all", scheme="asymmetric", layers=layers_of(chosen.plan.bits),
        tool="tool",
        plan_sha256=chosen.plan.sha256,
    )  # fmt: skip
    source = Source(model="/m.onnx", data=None, options=options or DataOptions())
    return KeptFrontier(
        document=document, source=source, method="frontier", profile="qdq", has_labels=True,
        guard=ToleranceGuard(max_drop=0, tolerance=0.5),
        images=100, correct=90, as_written=Paired(100, 90, 2, 1), points=by_size(points),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "said"), [("dense", True), ("int8-dense", True), ("qdq", False)]
)
def test_sizes_of_entropy_coded_weights_are_said_to_be_estimates(profile, said, capsys):
    found = replace(kept(point(4, 4, 4, 4, 4, correct=89, chosen=True)), profile=profile)
    Console(width=200).print(pareto_table(found, Path("small.run"), every=True))
    assert ("~ is by their bits" in capsys.readouterr().out) is said


class TestPick:
    KEPT = kept(
        point(8, 8, 8, 8, 8, correct=90, predicted=0.1),
        point(6, 6, 6, 6, 6, predicted=0.2),
        point(4, 4, 4, 4, 4, correct=89, predicted=0.5, chosen=True),
        point(4, 4, 4, 4, 3, predicted=0.45),
        point(3, 3, 3, 3, 3, correct=88, predicted=0.9),
        point(2, 2, 2, 2, 2, correct=89, predicted=0.95),
        point(1, 1, 1, 1, 1, correct=40, predicted=2.0),
    )

    @pytest.mark.parametrize(
        ("at", "bits"),
        [
            ("0%", 8), ("75%", 8), ("76%", 6), ("87.5%", 4), ("87.50%", 4), ("87.6%", 3),
            ("0", 8), ("-1", 2), ("-2", 2), ("-50", 1), ("-0.5", 8),
        ],
    )  # fmt: skip
    def test_pick(self, at, bits):
        assert At.parse(at).pick(self.KEPT).plan.bits["b"][1] == bits

    def test_every_point_can_be_named(self):
        hidden = point(5, 3, 4, 4, 4, predicted=0.3)  # as small as the chosen one
        several = kept(*self.KEPT.points[1:3], hidden)
        texts = [text_of(p, several) for p in several.points]
        assert [At.parse(text).pick(several) for text in texts] == list(several.points)
        assert sorted(text.partition(":")[0] for text in texts) == ["81.25%", "87.50%", "plan"]

    @pytest.mark.parametrize(("digest", "said"), [("0" * 8, "no plans"), ("0" * 7, "neither")])
    def test_no_such_plan(self, digest, said):
        with pytest.raises(SettingsError, match=said):
            At.parse(f"plan:{digest}").pick(self.KEPT)

    def test_least_kl_increase_not_least_size(self):
        # more compressed, yet with less predicted KL than the chosen one
        assert At.parse("82%").pick(self.KEPT).predicted == 0.45

    @pytest.mark.parametrize("at", ["97%", "+1", "0.5"])
    def test_out_of_reach(self, at):
        with pytest.raises(SettingsError, match="reaches from"):
            At.parse(at).pick(self.KEPT)

    def test_dominated(self):
        dominated = {p.plan.bits["b"][0] for p in self.KEPT.points if self.KEPT.dominated(p)}
        assert dominated == {4, 3}


bitwidths = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 32])


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.tuples(*[bitwidths] * 5), min_size=1, max_size=9, unique=True))
def test_the_file_gives_back_what_was_kept(tmp_path_factory, plans):
    folder = tmp_path_factory.mktemp("kept")
    points = [
        point(*bits, correct=None if n % 2 else n, predicted=n / 7, chosen=not n)
        for n, bits in enumerate(plans)
    ]
    written = kept(*points, options=DataOptions(mean=(0.1, 0.2, 0.3), resize=8))
    with open_run(folder, MadeOf({}, {}), resume=True):
        write_frontier(written, folder)
    found = read_frontier(folder)
    assert found.points == written.points
    assert found.source.options == written.source.options
    assert found.document == written.document
    assert found.as_written == written.as_written
