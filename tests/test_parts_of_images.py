"""Calibration images in three parts: to round on, to measure Δloss on, to check predictions on."""

from itertools import chain

import numpy as np
import pytest
from residual_net import save_noise, save_residual_net

from onnxsemi._data.load import DataOptions
from onnxsemi._data.sample import stratified
from onnxsemi._pipeline.preparation import drawn, prepare
from onnxsemi._pipeline.rounding import calibrated_rounder, codes_of
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._run.folder import nowhere
from onnxsemi._search.settings import SearchSettings
from onnxsemi._settings import Settings


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
        Settings(data=DataOptions(), force=True, **settings),
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


class TestFewImages:
    """Those that weights are rounded on are answered by plans that were rounded on others."""

    def test_which_are_crossed(self, folder):
        found = prepared(folder)
        digests = found.search.digests()
        assert [digests[place] for place in found.crossed] == found.rounding.digests()
        assert found.unseen.tolist() == sorted({*found.fresh, *found.crossed})
        assert len(found.unseen) == 90 - len(found.delta_loss)

    @pytest.mark.parametrize(
        ("count", "crosses"), [(3, False), (4, True), (1957, True), (1958, False), (2000, False)]
    )
    def test_as_many_as_show_the_default_tolerance_are_enough(self, count, crosses):
        for search in (SearchSettings(), SearchSettings(tolerance=3), SearchSettings(max_drop=2)):
            assert Settings(search=search).crosses(count) == crosses
        assert not Settings(search=SearchSettings(method="semilayer")).crosses(count)

    def test_where_most_are_not_rounded_on_they_are_enough(self):
        for count in (400, 1000):
            assert not Settings(rounding_samples=count // 4).crosses(count)
            assert Settings(rounding_samples=count // 4 + 1).crosses(count)

    def test_the_second_rounding_sees_none_of_them(self, folder):
        """Its codes are those of a rounding on the others alone."""
        found = prepared(folder, rounding_samples=30)
        codes = codes_of(found, nowhere(), Silent())
        first, second = codes.folds.folds
        assert first.rounder is codes.rounder
        assert sorted([*first.images, *second.images]) == list(range(90))
        assert second.images.tolist() == found.crossed.tolist()
        others = drawn(found.search.select(first.images), len(found.rounding))
        assert not set(others.digests()) & set(found.rounding.digests())
        plan = BitPlan.uniform(found.classifier.layers, 3)
        ladder, rounds = SearchSettings().bits, found.settings.rounds
        alone = calibrated_rounder(found.workload(others), ladder, rounds, 0, Silent())(plan)
        same = [
            np.array_equal(second.rounder(plan).layers[name].weight, layer.weight)
            for name, layer in alone.layers.items()
        ]
        own = [
            np.array_equal(first.rounder(plan).layers[name].weight, layer.weight)
            for name, layer in alone.layers.items()
        ]
        assert all(same)
        assert not any(
            own[1:]
        )  # of noise itself the few weights of the stem's channels tell little

    def test_enough_images_are_rounded_on_once(self, folder, monkeypatch):
        monkeypatch.setattr(Settings, "crosses", lambda _settings, _count: False)
        found = prepared(folder)
        assert found.unseen.tolist() == found.fresh.tolist()
        assert len(codes_of(found, nowhere(), Silent()).folds.folds) == 1


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
