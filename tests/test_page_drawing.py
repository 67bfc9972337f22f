"""What the figures of the report page are drawn with: escaped markup, scales."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.picture import data_uri
from onnxsemi._report.page.plot import table
from onnxsemi._report.page.scale import Kind, Scale, logarithmic, stretched


class TestMarkup:
    def test_text_is_escaped_markup_is_not(self):
        assert tag("b", "<i>&", Markup("<u></u>")) == "<b>&lt;i&gt;&amp;<u></u></b>"

    def test_attributes_are_escaped(self):
        assert tag("b", data_tip='">&') == '<b data-tip="&quot;&gt;&amp;"></b>'

    def test_nothing_is_left_out(self):
        assert join("a", None, 0) == "a0"
        assert tag("b", hidden=True, title=None, lang=False, x=1.0) == '<b hidden x="1"></b>'


class TestScale:
    @pytest.mark.parametrize("kind", Kind)
    def test_ends_and_order(self, kind):
        scale = Scale(0.5, 80.0, 10, 110, kind)
        assert scale.at(0.5) == 10
        assert scale.at(80.0) == pytest.approx(110)
        places = scale.all(np.array([0.5, 1, 2, 50, 80]))
        assert (np.diff(places) > 0).all()

    def test_stretched_is_odd(self):
        scale = Scale(-10, 10, 0, 100, Kind.STRETCHED, 0.1)
        assert scale.at(3) - 50 == pytest.approx(50 - scale.at(-3))

    def test_what_lies_outside_is_on_the_edge(self):
        assert Scale(0, 1, 0, 10).at(7) == 10

    @pytest.mark.parametrize(
        ("scale", "ticks"),
        [
            (Scale(0, 1, 0, 300), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (Scale(0.5, 200, 0, 300, Kind.LOG), [1, 10, 100]),
            (Scale(-5, 200, 0, 800, Kind.STRETCHED, 0.1), [-1, -0.1, 0, 0.1, 1, 10, 100]),
        ],
    )
    def test_ticks(self, scale, ticks):
        assert scale.ticks(50) == pytest.approx(ticks)

    @pytest.mark.parametrize("kind", Kind)
    def test_ticks_keep_their_distance(self, kind):
        scale = Scale(1e-7, 0.3, 0, 400, kind, 1e-5)
        places = scale.all(np.array(scale.ticks(40)))
        assert len(places) >= 2
        assert (np.diff(places) >= 40 - 1e-6).all()

    @pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (0, float("nan"))])
    def test_empty_range(self, bounds):
        with pytest.raises(ValueError, match="scale from"):
            Scale(*bounds, 0, 1)

    def test_of_values(self):
        nothing = np.array([np.nan, 0.0])
        assert stretched(nothing, 0, 1).low < 0 < stretched(nothing, 0, 1).high
        assert logarithmic(nothing, 0, 1).low > 0
        values = np.array([-3e-3, 2e-6, 0.0, np.nan, 4e-2])
        scale = stretched(values, 0, 100)
        assert (scale.at(-3e-3), scale.at(4e-2)) == pytest.approx((0, 100))


@pytest.mark.parametrize("samples", [1, 3])
def test_png(samples):
    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, samples), np.uint8)
    head, data = data_uri(pixels).split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


class TestTable:
    def test_words_stand_at_the_left(self):
        text = table(("a", "b", "c"), [("x", "word", 1), ("y", "", "2.5")], caption="t")
        assert '<td class="words">word</td><td>1</td>' in text
        assert '<th scope="col" class="words">b</th><th scope="col">c</th>' in text

    def test_without_rows(self):
        assert "<tbody></tbody>" in table(("a", "b"), [], caption="t")
