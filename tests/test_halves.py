"""Images that weights are rounded on, and the others, on which is told what that does."""

import numpy as np
import pytest
from residual_net import save_noise, save_residual_net

from onnxsemi.data.load import DataOptions
from onnxsemi.data.sample import stratified
from onnxsemi.pipeline.prepare import prepare
from onnxsemi.search.settings import SearchSettings
from onnxsemi.settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("halves")
    save_residual_net(path / "net.onnx")
    for name, count, seed in (("search", 90, 3), ("report", 20, 4)):
        save_noise(path / f"{name}.npz", count=count, seed=seed)
    return path


def prepared(folder, **settings):
    return prepare(
        folder / "net.onnx",
        folder / "search.npz",
        folder / "report.npz",
        Settings(data=DataOptions(), **settings),
    )


@pytest.mark.parametrize(("asked", "rounded"), [(10, 10), (45, 45), (46, 45), (1024, 45)])
def test_at_most_half_is_rounded_on(folder, asked, rounded):
    found = prepared(folder, rounding_samples=asked, delta_loss_samples=20)
    assert len(found.rounding) == rounded
    assert len(found.held_out) == 90 - rounded
    assert len(found.delta_loss) == 20
    taken, search = set(found.rounding.digests()), found.search.digests()
    assert {search[place] for place in found.held_out} == set(search) - taken
    assert not taken & set(found.delta_loss.digests())


def test_by_the_seed_alone(folder):
    first, again, other = (prepared(folder, seed=seed).rounding.digests() for seed in (1, 1, 2))
    assert first == again != other


def test_the_papers_method_rounds_on_no_images(folder):
    found = prepared(folder, search=SearchSettings(method="semilayer"))
    assert found.held_out.tolist() == list(range(90))
    assert len(found.delta_loss) == 90


def test_a_single_image(folder):
    found = prepared(folder, search_samples=1)
    assert len(found.rounding) == len(found.delta_loss) == len(found.held_out) == 1


@pytest.mark.parametrize("seed", range(5))
def test_half_of_one_image_a_class_is_no_half_of_the_classes(seed):
    """The lower half of 1,000 sorted classes is all animals."""
    chosen = stratified(np.arange(500), 250, seed)
    assert len(chosen) == 250
    assert 95 <= (chosen < 250).sum() <= 155
    assert chosen.tolist() != stratified(np.arange(500), 250, seed + 1).tolist()
