"""The colours of the page: enough contrast in light and dark, and the same meaning in both."""

import colorsys
import re
from importlib.resources import files

import pytest

CSS = files("onnxsemi._report.page").joinpath("page.css").read_text()
BLOCKS = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in BLOCKS)
TEXT = ("ink", "muted", "accent", "broken", "fixed", "maybe")
MARKS = [name for name in LIGHT if name not in {*TEXT, "paper", "raised", "rule", "grid"}]
GREYS = {"float", "other", "p-start", "b32", "muted", "ink", "paper", "raised", "rule", "grid"}
FADED = 0.9
"""Opacity of the palest marks."""


def rgb(colour):
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def luminance(colour):
    """Relative, by WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def faded(colour, paper):
    mixed = (FADED * a + (1 - FADED) * b for a, b in zip(rgb(colour), rgb(paper), strict=True))
    return "#" + "".join(f"{round(255 * c):02x}" for c in mixed)


def hue(colour):
    return 360 * colorsys.rgb_to_hls(*rgb(colour))[0]


def test_contrast_of_known_colours():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_both_schemes_name_the_same_colours():
    assert LIGHT.keys() == DARK.keys()
    assert {f"b{bits}" for bits in (0, 1, 2, 3, 4, 5, 6, 7, 8, 32)} <= set(MARKS)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", TEXT)
def test_text_can_be_read(scheme, name):
    assert contrast(scheme[name], scheme["paper"]) >= 4.5
    assert contrast(scheme[name], scheme["raised"]) >= 4.5


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", MARKS)
def test_marks_can_be_seen(scheme, name):
    assert contrast(faded(scheme[name], scheme["paper"]), scheme["paper"]) >= 3


@pytest.mark.parametrize("name", [n for n in LIGHT if n not in GREYS])
def test_a_colour_is_the_same_in_both(name):
    apart = abs(hue(LIGHT[name]) - hue(DARK[name]))
    assert min(apart, 360 - apart) <= 30


def test_more_bits_are_lighter_in_both():
    for scheme in (LIGHT, DARK):
        found = [luminance(scheme[f"b{bits}"]) for bits in range(1, 9)]
        assert found == sorted(found)


def test_lost_is_red_and_won_is_green():
    for scheme in (LIGHT, DARK):
        assert min(hue(scheme["broken"]), 360 - hue(scheme["broken"])) < 20
        assert 90 < hue(scheme["fixed"]) < 160
        assert hue(scheme["now"]) == hue(scheme["accent"])


def test_no_mark_is_paler_than_tested():
    found = re.findall(r"(?:fill|stroke)-opacity: ([\d.]+)", CSS)
    lines = [float(value) for value in found]
    assert sorted(lines) == [0.45, 1.0]  # the line between trials, a mark pointed at
