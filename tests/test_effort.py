"""``effort``: presets of options, which give way to those that are given."""

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run
from residual_net import save_noise, save_residual_net

from onnxsemi import Effort, SearchSettings, Settings, SettingsError
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.run_identity import identity

LOW = SearchSettings(effort="low")


def options(settings: Settings) -> tuple[int | None, int, int, int]:
    counts = settings.search_images, settings.rounding_images, settings.delta_loss_images
    return *counts, settings.search.most_tries


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), (None, 1024, 512, 4)),
        (Settings(search=LOW), (None, 256, 128, 0)),
        (Settings(search=SearchSettings(effort=Effort.HIGH)), (None, 4096, 2048, 12)),
        (Settings(search=replace(LOW, tries=4)), (None, 256, 128, 4)),
        (Settings(search=LOW, rounding_samples=1024), (None, 1024, 128, 0)),
        (Settings(search=LOW, search_samples=9000), (9000, 256, 128, 0)),
        (Settings(search=LOW, delta_loss_samples=7), (None, 256, 7, 0)),
        (Settings(delta_loss="exact"), (None, 1024, 128, 4)),
        (Settings(search=SearchSettings(effort="high"), delta_loss="exact"), (None, 4096, 128, 12)),
    ],
)
def test_an_option_that_is_given_wins(settings, expected):
    assert options(settings) == expected


def test_another_effort_gives_other_options():
    """A preset does not become a given option when settings are changed."""
    low = Settings(search=LOW)
    high = replace(low, search=replace(low.search, effort="high"))
    assert options(high) == (None, 4096, 2048, 12)


def test_no_such_effort():
    with pytest.raises(SettingsError, match="none of 'low'"):
        SearchSettings(effort="none")


def prepared(folder: Path, **settings: object) -> Prepared:
    save_residual_net(folder / "net.onnx")
    save_noise(folder / "search.npz", count=800, seed=3)
    save_noise(folder / "report.npz", count=30, seed=4)
    paths = [folder / name for name in ("net.onnx", "search.npz", "report.npz")]
    return prepare(*paths, Settings(force=True, **settings))


def test_what_a_run_is_made_of_says_what_it_comes_to(tmp_path):
    made = identity(prepared(tmp_path, search=LOW))
    named = ("--effort", "--rounding-samples", "--delta-loss-samples", "--tries")
    assert [made[name] for name in named] == ["low", 256, 128, 0]


def test_the_help_shows_it():
    shown = " ".join(run("compress", "--help").stdout.split())
    assert "--effort" in shown
    assert "low|medium|high" in shown.replace(" ", "")
