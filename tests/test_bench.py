"""``bench``: what it measures, in what it shows, and what it refuses."""

import json

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, run
from onnx import parser

import onnxsemi
from onnxsemi import BenchSettings, ModelError, SettingsError
from onnxsemi._pipeline.bench import _spread, _turn
from onnxsemi._runtime.memory import peak, resident

pytestmark = pytest.mark.slow

FEW = ("--rounds", 2, "--batch", 1, "--batch", 3)


def test_rows_are_the_models_in_both_kinds_of_session(folder):
    models = [folder / "model.onnx", folder / "small.onnx"]
    result = onnxsemi.bench(models, settings=BenchSettings(batches=(2,), rounds=3))
    assert [(row.model, row.folded) for row in result.rows] == [
        (model, folded) for model in models for folded in (False, True)
    ]
    for row in result.rows:
        assert row.file_bytes == row.model.stat().st_size
        assert row.peak_bytes > 0
        for spread in (row.load, *row.latency):
            low, high = spread.quartiles
            assert 0 < low <= spread.seconds <= high
    first = result.rows[0]
    assert (first.load.ratio, first.latency[0].ratio) == (1, 1)


def test_ratios_are_taken_within_a_round():
    """The machine was ten times slower in one round: the ratio does not see it."""
    seconds = np.array([[1.0, 2.0], [10.0, 20.0], [1.0, 2.0]])
    spread = _spread(seconds, 1)
    assert (spread.ratio, spread.ratio_quartiles) == (2.0, (2.0, 2.0))
    assert (spread.seconds, spread.quartiles) == (2.0, (2.0, 11.0))


def test_no_model_always_runs_behind_the_same_one():
    orders = [_turn(3, number) for number in range(6)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert {order[0] for order in orders} == {0, 1, 2}
    behind_first = {(order * 2)[order.index(0) + 1] for order in orders}
    assert behind_first == {1, 2}


def test_peak_is_the_high_water_mark():
    block = np.ones(2**25)  # 256 MB
    assert peak() >= block.nbytes
    del block
    assert peak() - resident() > 2**27


def test_table_and_json(folder):
    table = run("bench", folder / "model.onnx", folder / "small.onnx", *FEW)
    assert table.exit_code == 0, table.output
    words = " ".join(table.stdout.split())
    for word in ("batch 1", "batch 3", "load", "peak", "small.onnx", "First row: batch 1"):
        assert word in words
    document = json.loads(run("bench", folder / "small.onnx", *FEW, "--json").stdout)
    assert document["threads"] == 1
    assert [row["load_session"] for row in document["rows"]] == [False, True]
    assert set(document["rows"][0]["latency"]) == {"1", "3"}


def test_a_fixed_batch_is_kept(folder, tmp_path):
    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "fixed.onnx")
    once = BenchSettings(batches=(1,), rounds=1)
    assert len(onnxsemi.bench([tmp_path / "fixed.onnx"], settings=once).rows) == 2
    assert len(onnxsemi.bench(str(tmp_path / "fixed.onnx"), settings=once).rows) == 2


def test_bad_input(folder, tmp_path):
    assert run("bench").exit_code == 2
    assert_one_line(run("bench", folder / "absent.onnx"), "absent.onnx", "no such file")
    (tmp_path / "text.onnx").write_text("hello")
    assert_one_line(run("bench", tmp_path / "text.onnx"), "text.onnx", "ONNX Runtime refuses it")
    for flags in (("--rounds", 0), ("--batch", 0), ("--threads", 0)):
        assert_one_line(run("bench", folder / "model.onnx", *flags), flags[0])
    with pytest.raises(SettingsError, match="at least one model"):
        onnxsemi.bench([])


def test_a_model_that_noise_cannot_be_given_to(tmp_path):
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[N,4] x) => (int64[N,4] y)'
        " { y = Identity(x) }"
    )
    onnx.save(model, tmp_path / "integers.onnx")
    with pytest.raises(ModelError, match="one input of floats"):
        onnxsemi.bench([tmp_path / "integers.onnx"], settings=BenchSettings(rounds=1))
    assert_one_line(
        run("bench", tmp_path / "integers.onnx"), "integers.onnx", "one input of floats"
    )
