"""Options under their older names, and settings by their flags."""

import re

import numpy as np
import onnx
import pytest
from command_line import run
from onnx_models import SEPARABLE

from onnxsemi import Pin, SettingsError
from onnxsemi._cli.apply import apply
from onnxsemi._cli.check import check
from onnxsemi._cli.compress import compress
from onnxsemi._cli.flags import with_flags
from onnxsemi._cli.parameters import older_names
from onnxsemi._settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    onnx.save(SEPARABLE.model(), folder / "model.onnx")
    rng = np.random.default_rng(0)
    for name, count in (("search", 40), ("report", 30)):
        images = rng.normal(size=(count, 3, 8, 8)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=images)
    return folder


@pytest.mark.parametrize("first", ["--calibration-data", "--data", "-d"])
@pytest.mark.parametrize("second", ["--test-data", "--report-data"])
def test_both_names_are_read(folder, first, second):
    data = (first, folder / "search.npz", second, folder / "report.npz")
    found = run("check", folder / "model.onnx", *data, "--json")
    assert found.exit_code == 0, found.stderr
    assert '"search_images": 40, "report_images": 30' in found.stdout


@pytest.mark.parametrize(("command", "count"), [(check, 4), (compress, 4), (apply, 1)])
def test_help_shows_the_new_ones(command, count):
    shown, names = run(command.__name__, "--help-all").stdout, older_names(command)
    assert len(names) == count
    for older, newer in names.items():
        assert f"--{newer}" in shown
        assert not re.search(rf"--{older}\b", shown) or older == "data"


def test_a_wrong_name_is_told_the_new_ones(folder):
    result = run("check", folder / "model.onnx", "--calibration-dat", "x.npz")
    assert result.exit_code == 2
    assert "--calibration-data" in result.stderr


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        ("`test_data`: one has labels", "--test-data: one has labels"),
        ("leave `pins` away", "leave --pin away"),
        ("`method` semilayer: leave `rounding` away", "--method semilayer: leave --rounding away"),
        ("give `data`, or `calibration_data`", "give --test-data, or --calibration-data"),
        ("`batches` and `at`", "--batch and --at"),
        ("layer `conv1` is no setting", "layer `conv1` is no setting"),
    ],
)
def test_settings_by_their_flags(message, flags):
    assert with_flags(message) == flags


def test_python_names_fields():
    with pytest.raises(Exception, match="`seed`: -1 must be 0 or more"):
        Settings(seed=-1)


def test_pins_as_they_are_typed():
    assert Settings(pins=("a.*=4",)).pins == (Pin("a.*", 4),)
    assert Settings(pins=[Pin("a.*", 4)]).pins == (Pin("a.*", 4),)
    with pytest.raises(SettingsError, match="`pins`: 'a' is not PATTERN=BITS"):
        Settings(pins=("a",))
    with pytest.raises(TypeError, match="a pin must be Pin or str, not int"):
        Settings(pins=(4,))
