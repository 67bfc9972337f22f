"""The JSON schema of plans, which others check theirs with: it takes what we write and read."""

import json
import runpy
from importlib.resources import files
from pathlib import Path

import pytest
from command_line import compress_command, frontier_command, run
from jsonschema import Draft202012Validator
from residual_net import save_noise, save_residual_net

from onnxsemi._errors import PlanError
from onnxsemi._plan.channel_numbers import parse_ranges
from onnxsemi._run.plan_file import SCHEMA, plan_of, read_plan

SCHEMA_FILE = json.loads(files("onnxsemi").joinpath("plan.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA_FILE)


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Plans as compress writes them."""
    folder = tmp_path_factory.mktemp("schema")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=60, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    small = ("--rounding-samples", "40", "--max-drop", "3", "-q")
    for command in (
        frontier_command(folder, "frontier.onnx", *small),
        frontier_command(folder, "int8.onnx", *small, "--profile", "int8"),
        compress_command(folder, "paper.onnx", "--max-drop", "3", "-q"),
        compress_command(folder, "layers.onnx", "--max-drop", "3", "--split", "none", "-q"),
    ):
        result = run(*command)
        assert result.exit_code == 0, result.output
    return {path.name.split(".")[0]: path for path in folder.glob("*.plan.json")}


@pytest.fixture
def plan(plans):
    return json.loads(plans["int8"].read_text())


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA_FILE)


@pytest.mark.slow
def test_real_plans(plans):
    assert plans.keys() == {"frontier", "int8", "paper", "layers"}
    for path in plans.values():
        document = json.loads(path.read_text())
        assert list(VALIDATOR.iter_errors(document)) == []
        assert document["schema"] == SCHEMA


def test_the_schema_is_what_the_types_are():
    """`python docs/make_schema.py` writes it."""
    maker = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_schema.py"))
    assert files("onnxsemi").joinpath("plan.schema.json").read_text("utf-8") == maker["text"]()


WRONG = {
    "schema": lambda p: p.update(schema=3),
    "schema as text": lambda p: p.update(schema="2"),
    "unknown key": lambda p: p.update(pins={}),
    "unknown key of a layer": lambda p: p["layers"]["c1"].update(weights=54),
    "schema of before": lambda p: p.update(schema=1),
    "no layers": lambda p: p.pop("layers"),
    "no model": lambda p: p.pop("model"),
    "channels": lambda p: p["layers"]["c1"].pop("channels"),
    "bitwidth": lambda p: p["layers"]["c1"].update(bits={"9": "0-7"}),
    "ranges": lambda p: p["layers"]["c1"].update(bits={"8": "all"}),
    "hash": lambda p: p.update(plan_sha256="abc"),
    "digest": lambda p: p.update(weights_sha256="A" * 64),
    "processor": lambda p: p.update(processor="AMD EPYC"),
    "half a processor": lambda p: p["processor"].pop("features"),
    "unknown of a processor": lambda p: p["processor"].update(cores=2),
    "no names": lambda p: p["processor"].update(libraries=[1]),
    "rounding": lambda p: p["rounding"].update(method="up"),
    "unknown rounding": lambda p: p["rounding"].update(randomly=True),
    "activation": lambda p: p.update(activations={"image": [0.0]}),
    "evidence": lambda p: p.update(evidence={"c1": {"8": {"up": {}}}}),
    "unknown evidence": lambda p: p["evidence"].update(
        c1={"8": {"both": {"channels": "0", "delta_loss": 0.0, "kl": 0.0, "why": "so"}}}
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_is_refused_is_no_plan_by_the_schema_either(plan, change):
    change(plan)
    assert not VALIDATOR.is_valid(plan)
    with pytest.raises(PlanError):
        plan_of(json.dumps(plan))


def test_a_key_that_stands_twice_is_refused(plans, tmp_path):
    text = plans["paper"].read_text()
    path = tmp_path / "twice.plan.json"
    path.write_text(
        text.replace('"c1": {', '"c1": {"channels": 8, "bits": {"4": "0-7"}},\n"c1": {', 1)
    )
    with pytest.raises(PlanError, match="'c1' stands twice"):
        read_plan(path)


def test_a_layer_and_bitwidth_is_a_line(plans):
    """So that a diff shows what was changed, and no more."""
    text = plans["frontier"].read_text()
    document = json.loads(text)
    lines = text.splitlines()
    for layer, entry in document["layers"].items():
        for bits, channels in entry["bits"].items():
            assert sum(line.strip(" ,") == f'"{bits}": "{channels}"' for line in lines) >= 1, layer
    for by_bits in document["evidence"].values():
        for signs in by_bits.values():
            for sign in signs:
                assert any(line.strip().startswith(f'"{sign}": {{"channels"') for line in lines)


def test_evidence_is_of_the_plans_channels(plans):
    for name in ("frontier", "paper"):
        plan = read_plan(plans[name])
        assert plan.evidence
        for layer, by_bits in plan.evidence.items():
            told = []
            for bits, signs in by_bits.items():
                for sign, known in signs.items():
                    channels = parse_ranges(known.channels, plan.layers[layer].channels)
                    told += [(channel, int(bits)) for channel in channels]
                    assert (known.delta_loss > 0) == (sign == "positive")
                    assert known.kl >= 0
            quantized = [(c, b) for c, b in enumerate(plan.bits[layer]) if b != 32]
            assert sorted(told) == quantized
    trials = (k.trial for b in read_plan(plans["paper"]).evidence.values() for s in b.values()
              for k in s.values())  # fmt: skip
    assert any(trials)
    assert read_plan(plans["layers"]).evidence is None
