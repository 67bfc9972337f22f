"""What is written has a size that is stated: more is one line, and what was there stays."""

import shutil

import pytest
from command_line import assert_one_line, frontier_command, run
from emitting import ALL, FLOAT_PROFILES, MIXES, conv_model
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import OutputError, PlanError, RunError
from onnxsemi._emit.model import emit
from onnxsemi._model.reader import read_model
from onnxsemi._output_size import MODEL_MORE, MODEL_TIMES, check_model_size, written_text
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._report.page.markup import tag
from onnxsemi._run.folder import MadeOf, made_of
from onnxsemi._run.journal import Journal, Question, check_lines
from onnxsemi._run.plan_file import MOST_LAYERS, PlanFile, plan_of
from onnxsemi._run.store import NO_RUN, write
from onnxsemi._visible import LONGEST_TEXT, shown

SMALL = ("--rounding-samples", "20", "--max-drop", "90", "--bits", "8,4", "-q")
OLD = b"what was there before"


def test_the_bound_of_a_model():
    most = MODEL_TIMES * 1000 + MODEL_MORE
    check_model_size(most, 1000)
    with pytest.raises(PlanError, match=r"would have 1,050,577 bytes, more than 2 times .* 1 MiB"):
        check_model_size(most + 1, 1000)


@pytest.mark.parametrize("profile", FLOAT_PROFILES)
@pytest.mark.parametrize("long", ["", "n" * 4000], ids=["short names", "long names"])
def test_no_profile_comes_near_it(profile, long):
    """The worst there is, eight bitwidths in layers of a few weights: 500 such layers may be."""
    model = conv_model("conv", biased=True)
    for node in model.graph.node:
        node.name = long + (node.name or node.output[0])
    classifier = read_model(model, ALL)
    bits = {
        layer.name: tuple(MIXES["every-bitwidth"][c % 8] for c in range(layer.channels))
        for layer in classifier.layers
    }
    parameters = {layer.name: layer.channel_params for layer in classifier.layers}
    codes = rounded(classifier.layers, BitPlan(bits, parameters), Nearest(Scheme.ASYMMETRIC))
    size = len(emit(classifier, codes, profile).SerializeToString())
    check_model_size(size, max(classifier.source_bytes, 4 * classifier.parameters))
    beyond = (size - MODEL_TIMES * classifier.source_bytes) / len(classifier.layers)
    assert beyond < MODEL_MORE / (20 if long else 500)


def test_a_text(monkeypatch):
    assert written_text("é", "a.json") == "é".encode()
    monkeypatch.setattr("onnxsemi._output_size.MOST_TEXT", 2**20)
    assert len(written_text("a" * 2**20, "a.json")) == 2**20
    with pytest.raises(OutputError, match=r"^a\.json: would have 1 MiB, and is written with at"):
        written_text("a" * (2**20 + 1), "a.json")


def test_names_are_cut():
    many = "name " * 10**6
    assert len(shown(many)) <= LONGEST_TEXT
    assert len(tag("p", many, title=many, aria_label=many, data_tip=many)) < 5 * LONGEST_TEXT
    drawn = "M 0 0 " * 10**4
    assert drawn in tag("path", d=drawn)


def test_layers_of_a_plan():
    layers = ", ".join(
        f'"{n}": {{"channels": 1, "bits": {{"8": "0"}}}}' for n in range(MOST_LAYERS + 1)
    )
    text = '{"schema": 2, "model": "m", "targets": "all", "scheme": "symmetric", "layers": {%s}}'
    with pytest.raises(PlanError, match="100,001 layers; a plan has at most 100,000"):
        plan_of(text % layers)


class Asked(Question, frozen=True):
    """One question."""

    number: int


def test_files_of_a_run(tmp_path, monkeypatch):
    write(tmp_path / "run.json", MadeOf({"model": "m"}, {}), NO_RUN)
    before = (tmp_path / "run.json").read_bytes()
    monkeypatch.setattr("onnxsemi._output_size.MOST_TEXT", 1000)
    with pytest.raises(OutputError, match=r"run\.json: would have"):
        write(tmp_path / "run.json", MadeOf({"model": "m" * 1000}, {}), NO_RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == before
    monkeypatch.setattr("onnxsemi._run.store.MOST_TEXT", len(before) - 1)
    with pytest.raises(RunError, match=r"run\.json: is damaged, or was changed"):
        made_of(tmp_path)


def test_a_journal(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.ask(Asked(1), int, lambda: 1)
    before = path.read_bytes()
    monkeypatch.setattr("onnxsemi._run.journal.MOST_BYTES", len(before) + 10)
    with pytest.raises(RunError, match=r"journal\.jsonl: has no room for more"):
        journal.ask(Asked(2), int, lambda: 2)
    assert path.read_bytes() == before
    monkeypatch.setattr("onnxsemi._run.journal.MOST_BYTES", len(before) - 1)
    with pytest.raises(RunError, match=r"journal\.jsonl: is damaged: no journal is that large"):
        check_lines(path, NO_RUN)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=40, seed=1)
    save_noise(folder / "report.npz", count=20, seed=2)
    made = run(*frontier_command(folder, "small.onnx", *SMALL))
    assert made.exit_code == 0, made.output
    return folder


@pytest.fixture
def copy(done, tmp_path):
    folder = shutil.copytree(done, tmp_path / "copy")
    for name in ("again.onnx", "again.plan.json", "page.html"):
        (folder / name).write_bytes(OLD)
    return folder


@pytest.mark.slow
class TestCommands:
    """Each with bounds that its output is beyond."""

    def untouched(self, folder):
        names = ("again.onnx", "again.plan.json", "page.html")
        assert all((folder / name).read_bytes() == OLD for name in names)
        assert not list(folder.rglob("*.part"))

    def test_a_model(self, copy, monkeypatch):
        monkeypatch.setattr("onnxsemi._output_size.MODEL_TIMES", 0)
        monkeypatch.setattr("onnxsemi._output_size.MODEL_MORE", 100)
        found = run("apply", copy / "small.run", "-o", copy / "again.onnx", "--allow-loss", "-q")
        assert_one_line(found, "the written model would have", "--bits")
        self.untouched(copy)

    def test_texts(self, copy, monkeypatch):
        monkeypatch.setattr("onnxsemi._output_size.MOST_TEXT", 100)
        found = run("apply", copy / "small.run", "-o", copy / "again.onnx", "--allow-loss", "-q")
        assert_one_line(found, "again.plan.json: would have", "--exclude")
        found = run("report", copy / "small.run", "--out", copy / "page.html", "-q")
        assert_one_line(found, "page.html: would have")
        assert_one_line(run("inspect", copy / "small.onnx", "--json"), "the JSON document: would")
        self.untouched(copy)

    def test_what_is_written_keeps_the_bounds(self, copy):
        float_model = (copy / "model.onnx").stat().st_size
        check_model_size((copy / "small.onnx").stat().st_size, float_model)
        assert isinstance(plan_of((copy / "small.plan.json").read_text()), PlanFile)
        onnxsemi.verify(copy / "small.onnx", plan=copy / "small.plan.json", run=copy / "small.run")
