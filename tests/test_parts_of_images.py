"""Search images in three parts: to round on, to measure Δloss on, to check predictions on."""

from itertools import chain

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


@pytest.mark.parametrize(
    ("asked", "rounded", "loss"), [(10, 10, 20), (45, 45, 20), (46, 45, 22), (1024, 45, 22)]
)
def test_at_most_half_is_rounded_on_and_half_of_the_others_for_the_loss(
    folder, asked, rounded, loss
):
    wanted = 20 if loss == 20 else 512
    found = prepared(folder, rounding_samples=asked, delta_loss_samples=wanted)
    assert len(found.rounding) == rounded
    assert len(found.delta_loss) == loss
    assert len(found.fresh) == 90 - rounded - loss
    parts = [found.rounding.digests(), found.delta_loss.digests()]
    parts.append([found.search.digests()[place] for place in found.fresh])
    assert sorted(chain.from_iterable(parts)) == sorted(found.search.digests())


def test_by_the_seed_alone(folder):
    first, again, other = (prepared(folder, seed=seed).rounding.digests() for seed in (1, 1, 2))
    assert first == again != other


def test_the_papers_method_rounds_on_no_images(folder):
    found = prepared(folder, search=SearchSettings(method="semilayer"))
    assert found.fresh.tolist() == list(range(90))
    assert len(found.delta_loss) == 90


def test_a_single_image(folder):
    found = prepared(folder, search_samples=1)
    assert len(found.rounding) == len(found.delta_loss) == len(found.fresh) == 1


@pytest.mark.parametrize("seed", range(5))
def test_half_of_one_image_a_class_is_no_half_of_the_classes(seed):
    """The lower half of 1,000 sorted classes is all animals."""
    chosen = stratified(np.arange(500), 250, seed)
    assert len(chosen) == 250
    assert 95 <= (chosen < 250).sum() <= 155
    assert chosen.tolist() != stratified(np.arange(500), 250, seed + 1).tolist()
