"""What results show of themselves at a prompt and in a notebook."""

import numpy as np
import onnx
import pytest
from onnx_models import SEPARABLE

import onnxsemi
from onnxsemi import (
    ApplySettings,
    BenchSettings,
    EvaluateSettings,
    RunOptions,
    SearchSettings,
    Settings,
)

pytestmark = pytest.mark.slow

LINES = 5


ALLOWED = ApplySettings(allow_loss=True)
FORCED = EvaluateSettings(force=True)
ONCE = BenchSettings(rounds=1, batches=(1,))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One of each kind, of a small net."""
    folder = tmp_path_factory.mktemp("brief")
    images = np.random.default_rng(0).normal(size=(60, 3, 8, 8)).astype(np.float32)
    data, model = (images, np.arange(60) % 4), folder / "model.onnx"
    onnx.save(SEPARABLE.model(), model)
    settings = Settings(
        search=SearchSettings(bits=(8, 4), max_drop=100),
        run=RunOptions(folder=folder / "small.run"),
        force=True,
        allow_loss=True,
    )
    small, again = folder / "small.onnx", folder / "again.onnx"
    compressed = onnxsemi.compress(model, data, output=small, settings=settings)
    applied = onnxsemi.apply(
        folder / "small.run",
        output=again,
        calibration_data=data,
        data=data,
        settings=ALLOWED,
    )
    return {
        "CompressResult": compressed,
        "ApplyResult": applied,
        "EvaluateResult": onnxsemi.evaluate(small, data, reference=model, settings=FORCED),
        "CheckResult": onnxsemi.check(model, data, settings=settings),
        "InspectResult": onnxsemi.inspect(small),
        "CompareResult": onnxsemi.compare(small, again),
        "BenchResult": onnxsemi.bench([model, small], settings=ONCE),
        "KeptFrontier": onnxsemi.pareto(folder / "small.run"),
    }


KINDS = (
    *("CompressResult", "ApplyResult", "EvaluateResult", "CheckResult"),
    *("InspectResult", "CompareResult", "BenchResult", "KeptFrontier"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_five_lines_at_the_most(results, kind):
    lines = repr(results[kind]).splitlines()
    assert lines[0].startswith(f"{kind}: ")
    assert 2 <= len(lines) <= LINES
    assert all(line.startswith("  ") and not line.startswith("   ") for line in lines[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_a_table(results, kind):
    shown = results[kind]._repr_html_()
    assert shown.startswith("<table>")
    assert shown.count("<tr>") == len(results[kind].brief) - 1


def test_the_verdict_comes_first(results):
    result = results["CompressResult"]
    assert repr(result).startswith(f"CompressResult: {result.verdict.outcome}: top-1 ")
    assert f"{result.sizes.file:.2%} smaller" in repr(result)


def test_names_are_text_in_html():
    class Odd(onnxsemi._short_form.Brief):
        brief = (("first", "<b>"), ("<i>", "a & b"))

    assert "<b>" not in Odd()._repr_html_()
    assert "&lt;i&gt;" in Odd()._repr_html_()
    assert "a &amp; b" in Odd()._repr_html_()
