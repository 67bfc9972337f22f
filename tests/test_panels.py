"""Very wide layers: their columns in panels, from the sums over images to the written file."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest
from command_line import frontier_command, run
from hypothesis import given
from hypothesis import strategies as st
from onnx_models import Net
from residual_net import save_noise, save_residual_net

from onnxsemi import ReadOptions, Settings
from onnxsemi._pipeline.memory_need import least_memory
from onnxsemi._pipeline.preparation import prepare
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.settings import Ranges, RoundingMethod, RoundingSettings
from onnxsemi._rounding import panels as panels_module
from onnxsemi._rounding.grid import Grid
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.panels import WIDEST, Panels
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments

MORE = ("--bits", "8,4,2", "--rounding-samples", "40", "--max-drop", "2")
IMAGE = (32, 28, 28)
VGG = """
maps = Conv (image, c_w)
flat = Flatten (maps)
scores = Gemm <transB = 1> (flat, fc_w, fc_b)
"""
VGG_WEIGHTS = {"c_w": (32, 32, 1, 1), "fc_w": (5, 25088), "fc_b": (5,)}
FEW = 5  # columns of a panel at most, of layers of 6 to 72


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(panels_module, "WIDEST", FEW)


class TestCut:
    @given(st.integers(1, 40 * WIDEST), st.integers(1, 3))
    def test_few_panels_that_are_alike(self, size, groups):
        panels = Panels.of(groups, size)
        assert panels.width <= WIDEST
        assert (panels.count - 1) * WIDEST < size
        assert 0 <= panels.count * panels.width - size < panels.count
        moments = SecondMoments(np.empty(0), np.empty((len(panels), panels.width)), np.empty(0))
        assert moments.panels(size) == panels

    @pytest.mark.parametrize(("size", "count"), [(1, 1), (4608, 1), (WIDEST, 1), (WIDEST + 1, 2)])
    def test_from_the_bound_on(self, size, count):
        assert Panels.of(1, size).count == count

    @pytest.mark.parametrize(("groups", "size", "count"), [(1, 7, 1), (1, 12, 3), (2, 11, 3)])
    def test_outputs_are_the_sums_over_panels(self, groups, size, count):
        rng, panels = np.random.default_rng(0), Panels(groups, size, count)
        weight = rng.normal(size=(4, size)).astype(np.float32)
        columns = rng.normal(size=(groups, size, 6)).astype(np.float32)
        rows, cut = panels.rows(weight), panels.columns(columns)
        assert rows.shape == (4 * count, panels.width)
        assert cut.shape == (groups * count, panels.width, 6)
        parts = rows.reshape(len(panels), -1, panels.width) @ cut
        sums = [panels.summed(sample) for sample in parts.reshape(-1, 6).T]
        expected = (weight.reshape(groups, -1, size) @ columns).reshape(4, 6)
        np.testing.assert_allclose(np.stack(sums, axis=1), expected, atol=1e-5)
        assert panels.joined(rows).tobytes() == weight.tobytes()


class TestSums:
    @pytest.mark.usefixtures("narrow")
    @pytest.mark.parametrize("centred", [True, False])
    @pytest.mark.parametrize(("groups", "size"), [(1, 10), (1, 13), (2, 11)])
    def test_against_numpy(self, groups, size, centred):
        rng, panels = np.random.default_rng(0), Panels.of(groups, size)
        columns = (rng.normal(size=(groups, size, 90)) + 1).astype(np.float32)
        distance = rng.normal(size=(4, 90)).astype(np.float32) + np.float32(0.3)
        sums = MomentSums(groups, size, 4)
        for some in (slice(0, 40), slice(40, 90)):
            sums.add([sums.block(columns[..., some], distance[:, some])])
        found = sums.moments(centred=centred, damping=np.zeros(len(panels)))
        x, d = columns.astype(np.float64), distance.astype(np.float64).reshape(groups, -1, 90)
        change = rng.normal(size=(4, size)).astype(np.float32)
        expected = change.reshape(groups, -1, size) @ x.mean(axis=2)[..., None]
        np.testing.assert_allclose(found.mean_output(change), expected.ravel(), atol=1e-5)
        np.testing.assert_allclose(found.offset, d.mean(axis=2).ravel(), atol=1e-6)
        if centred:
            x, d = (values - values.mean(axis=2, keepdims=True) for values in (x, d))
        cross = panels.joined(found.cross)
        np.testing.assert_allclose(cross, (d @ x.swapaxes(1, 2) / 90).reshape(4, -1), atol=1e-4)
        whole = x @ x.swapaxes(1, 2) / 90
        for place, second in enumerate(found.second):
            group, first = place // panels.count, place % panels.count * panels.width
            own = slice(first, first + panels.width)
            held = whole[group, own, own]  # the last panel may have columns of 0 behind
            np.testing.assert_allclose(second[: len(held), : len(held)], held, atol=1e-4)
            assert not second[len(held) :].any()
            assert not second[:, len(held) :].any()

    @pytest.mark.usefixtures("narrow")
    def test_damping_is_that_of_each_panel(self):
        columns = np.random.default_rng(0).normal(size=(1, 10, 4, 30)).astype(np.float32)
        columns[:, 5:] *= 3
        whole, halves = MomentSums(1, 10), [MomentSums(1, 5), MomentSums(1, 5)]
        for block in columns.transpose(2, 0, 1, 3):
            whole.add([whole.block(block)])
            for half, part in zip(halves, np.split(block, 2, axis=1), strict=True):
                half.add([half.block(part)])
        expected = [half.moments(centred=True).damping[0] for half in halves]
        assert whole.moments(centred=True).damping.tolist() == expected


def unlike(sizes, seed=0):
    """Second moments of columns that have nothing in common between some parts, damped by 0.1."""
    rng, parts = np.random.default_rng(seed), []
    for size in sizes:
        columns = rng.normal(size=(size, 60)) + 2 * rng.normal(size=(1, 60))
        parts.append(columns @ columns.T / 60 + 0.1 * np.eye(size))
    whole = np.zeros((sum(sizes), sum(sizes)), np.float32)
    for end, part in zip(np.cumsum(sizes), parts, strict=True):
        own = slice(end - len(part), end)
        whole[own, own] = part
    return whole


def cut(second, count):
    """The same as panels, filled with what damps them: [count, k, k]."""
    width = -(-len(second) // count)
    filled = np.float32(0.1) * np.eye(count * width, dtype=np.float32)
    filled[: len(second), : len(second)] = second
    ends = range(width, count * width + 1, width)
    return np.stack([filled[end - width : end, end - width : end] for end in ends])


HOW = {
    "default": RoundingSettings(),
    "nearest": RoundingSettings(method=RoundingMethod.NEAREST),
    "mse": RoundingSettings(ranges=Ranges.MSE),
    "minmax": RoundingSettings(ranges=Ranges.MINMAX),
}


class TestRounder:
    """Where panels have nothing in common, cutting loses nothing: the codes are the same."""

    @pytest.mark.parametrize("how", HOW)
    @pytest.mark.parametrize("bits", [2, 3, 6])
    @pytest.mark.parametrize("sizes", [(12, 12, 12), (12, 12, 11)])
    def test_codes(self, bits, how, sizes):
        # a weight of 0 in a filled column costs nothing where 0 is on the grid
        settings = replace(HOW[how], half_steps=len(set(sizes)) == 1)
        second = unlike(sizes)
        rng = np.random.default_rng(1)
        weight = rng.normal(size=(300, len(second))).astype(np.float32)
        cross = rng.normal(size=weight.shape)
        found = []
        with ThreadPoolExecutor(2) as pool:
            for parts in (second[None], cut(second, len(sizes))):
                moments = SecondMoments(parts, np.zeros(parts.shape[:2]), np.full(len(parts), 0.1))
                rounder = LayerRounder(moments, settings, Scheme.ASYMMETRIC, pool)
                quantized = rounder.at(weight, bits)
                panels = moments.panels(len(second))
                aimed = rounder.aimed(weight, panels.rows(cross))
                grid = Grid.of(quantized)
                found.append((quantized, aimed, rounder.codes(weight, grid)[0]))
        (plain, moved, finer), (mine, moved_too, finer_too) = found
        for name in ("codes", "scale", "zero_point"):
            assert getattr(mine, name).tobytes() == getattr(plain, name).tobytes(), name
        np.testing.assert_allclose(moved_too, moved, rtol=1e-4, atol=1e-5)
        assert finer_too.tobytes() == finer.tobytes()

    def test_of_groups(self):
        """Two groups of three panels are six groups whose errors are summed."""
        seconds = [unlike((5, 5, 5), seed) for seed in (0, 1)]
        weight = np.random.default_rng(1).normal(size=(8, 15)).astype(np.float32)
        joined = np.concatenate([cut(second, 3) for second in seconds])
        found = []
        with ThreadPoolExecutor(2) as pool:
            for parts in (np.stack(seconds), joined):
                moments = SecondMoments(parts, np.zeros(parts.shape[:2]), np.full(len(parts), 0.1))
                rounder = LayerRounder(moments, RoundingSettings(), Scheme.ASYMMETRIC, pool)
                found.append(rounder.at(weight, 3).codes.tobytes())
        assert found[0] == found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A net compressed as it is, and with every layer too wide."""
    folder = tmp_path_factory.mktemp("panels")
    save_residual_net(folder / "model.onnx")
    for name, seed in (("search", 1), ("report", 2)):
        save_noise(folder / f"{name}.npz", count=70, seed=seed, labels=False)
    uncut = run(*frontier_command(folder, "uncut.onnx", *MORE))
    assert uncut.exit_code == 0, uncut.output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels_module, "WIDEST", FEW)
        result = run(*frontier_command(folder, "cut.onnx", *MORE))
    assert result.exit_code == 0, result.output
    return folder


def test_memory_that_is_asked_for(tmp_path, monkeypatch):
    """The first matrix product of a VGG-16: 25 GB of factor if it is not cut."""
    model = Net(VGG, VGG_WEIGHTS, image="float[N,32,28,28] image").model()
    onnx.save(model, tmp_path / "wide.onnx")
    images = np.random.default_rng(0).normal(size=(12, *IMAGE)).astype(np.float32)
    np.savez(tmp_path / "noise.npz", x=images)
    files = (tmp_path / "wide.onnx", tmp_path / "noise.npz", None)
    prepared = prepare(*files, Settings(model=ReadOptions(targets="all"), force=True))
    workload = prepared.workload(prepared.rounding)
    needs = [least_memory(replace(workload, threads=n), prepared.settings) for n in (1, 2, 8)]
    monkeypatch.setattr(panels_module, "WIDEST", 10**6)
    whole = least_memory(workload, prepared.settings)
    assert whole > 40 * 25088**2
    factor, noise = 28 * 5018**2, 2**24  # what the process holds changes from call to call
    assert needs[1] - needs[0] > factor - noise  # of two at once, and no more than there are
    assert 4 * factor - noise < needs[2] - needs[0] < 4 * factor + noise
    assert max(needs) < whole / 4


@pytest.mark.slow
class TestWhole:
    """Searched, written, taken up again, applied."""

    def test_is_another_rounding(self, folder):
        assert (folder / "cut.onnx").read_bytes() != (folder / "uncut.onnx").read_bytes()

    @pytest.mark.usefixtures("narrow")
    def test_does_not_depend_on_threads(self, folder):
        result = run(*frontier_command(folder, "threads.onnx", *MORE, "--threads", "3"))
        assert result.exit_code == 0, result.output
        assert (folder / "threads.onnx").read_bytes() == (folder / "cut.onnx").read_bytes()

    @pytest.mark.usefixtures("narrow")
    def test_the_plan_gives_the_same_bytes(self, folder):
        command = ("apply", folder / "cut.plan.json", folder / "model.onnx")
        data = ("--calibration-data", folder / "search.npz")
        result = run(*command, "-o", folder / "again.onnx", *data)
        assert result.exit_code == 0, result.output
        assert (folder / "again.onnx").read_bytes() == (folder / "cut.onnx").read_bytes()

    @pytest.mark.usefixtures("narrow")
    def test_a_run_goes_on_with_its_table(self, folder):
        journal = folder / "cut.run" / "journal.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]))
        before = (folder / "cut.onnx").read_bytes()
        result = run(*frontier_command(folder, "cut.onnx", *MORE, "--resume", "-q"))
        assert result.exit_code == 0, result.output
        assert (folder / "cut.onnx").read_bytes() == before
