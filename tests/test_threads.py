"""Moments, rounding and a whole run give the same bytes on any number of threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import Settings
from onnxsemi._data.load import load_images
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding import layer, row_parts, triangular
from onnxsemi._rounding.float_inputs import rounding_table
from onnxsemi._rounding.gptq import Factor
from onnxsemi._rounding.observed_layers import input_moments, observed_layers
from onnxsemi._rounding.second_moments import MomentSums
from onnxsemi._rounding.sequential import SequentialRounder

THREADS = (1, 2, 3, 16)
BITS = (8, 4, 2)
HOW = RoundingSettings()
each_count = pytest.mark.parametrize("threads", THREADS[1:])


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    """The net is small: so are the parts that threads work on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_parts, "PART_ROWS", 5)
        patch.setattr(triangular, "TILE_ROWS", 4)
        patch.setattr(layer, "ROUNDED_ROWS", 3)
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The net and images, on one thread."""
    folder = tmp_path_factory.mktemp("net")
    classifier = read_model(save_residual_net(folder / "net.onnx"), ReadOptions(targets="all"))
    noise = save_noise(folder / "noise.npz", count=90, seed=1)
    images = load_images(noise, "image", (None, 3, 8, 8))
    return Workload(classifier, images, Nearest(Scheme.ASYMMETRIC), threads=1)


def moments(workload):
    layers = observed_layers(workload.classifier, workload.image)
    sums = input_moments(workload, layers, 0, Silent())
    with ThreadPoolExecutor(workload.threads) as pool:
        found = [sums[one.name].moments(centred=True, each=pool.map) for one in layers]
    return [array.tobytes() for each in found for array in (each.second, each.mean, each.damping)]


def table_of(workload):
    return rounding_table(workload, BITS, HOW, 0, Silent())


def table_bytes(table):
    return [
        part.tobytes()
        for name, entries in table.entries.items()
        for bits, found in entries.items()
        for part in (found.codes, found.scale, found.zero_point, *shifts(table, name, bits))
    ]


def shifts(table, name, bits):
    return (table.shifts[name][bits], table.damping[name]) if name in table.shifts else ()


def plan_bytes(workload, table):
    plan = BitPlan.uniform(workload.classifier.layers, 4)
    plan = plan.with_layers(list(plan.bits)[::3], 2)
    found = SequentialRounder(workload, table, HOW, 0)(plan, Silent())
    biases = [one.bias.tobytes() for one in found.layers.values() if one.bias is not None]
    return [one.weight.tobytes() for one in found.layers.values()], biases


@each_count
def test_moments(alone, threads):
    assert moments(replace(alone, threads=threads)) == moments(alone)


@each_count
def test_rounding(alone, threads):
    """Every channel at every bitwidth, then a plan, layer after layer."""
    many = replace(alone, threads=threads)
    table, other = table_of(alone), table_of(many)
    assert table_bytes(other) == table_bytes(table)
    assert plan_bytes(many, other) == plan_bytes(alone, table)


@each_count
def test_large_matrices_in_parts(threads, monkeypatch):
    """More rows than a part has, of the size that parts have."""
    monkeypatch.undo()
    generator, outputs, size = np.random.default_rng(0), 300, 290
    sums = MomentSums(1, size, outputs)
    columns = generator.normal(size=(1, size, 400)).astype(np.float32)
    sums.add([sums.block(columns, generator.normal(size=(outputs, 400)).astype(np.float32))])

    def found(each):
        ready = sums.moments(centred=True, damping=np.array([0.1]), each=each)
        factor = Factor.of(ready.second[0], each)
        solved = factor.solved(ready.cross, each)
        return [one.tobytes() for one in (ready.second, ready.cross, factor.upper, solved)]

    with ThreadPoolExecutor(threads) as pool:
        assert found(pool.map) == found(map)


@pytest.mark.slow
def test_a_whole_run(tmp_path):
    model = save_residual_net(tmp_path / "net.onnx")
    search = save_noise(tmp_path / "search.npz", count=70, seed=1)
    report = save_noise(tmp_path / "report.npz", count=20, seed=2)
    written = []
    for threads in THREADS:
        out = tmp_path / f"{threads}.onnx"
        settings = Settings(threads=threads, force=True, allow_loss=True)
        settings = replace(settings, search=replace(settings.search, tolerance=50.0))
        onnxsemi.compress(model, search, output=out, test_data=report, settings=settings)
        plan = out.with_name(f"{threads}.plan.json")
        written.append((out.read_bytes(), plan.read_bytes()))
    assert written[1:] == written[:1] * (len(THREADS) - 1)
