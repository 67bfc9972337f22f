"""The report page: what is drawn is what was measured, escaped, in every case that there is."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from page_data import kept, made_run, said

from onnxsemi._report.page import render
from onnxsemi._report.page.answers import answers
from onnxsemi._report.page.channels import layers_of
from onnxsemi._report.page.distribution import counts, distribution
from onnxsemi._report.page.scale import stretched
from onnxsemi._report.page.sensitive import sensitive
from onnxsemi._report.page.sizes import sizes
from onnxsemi._report.page.strips import strips
from onnxsemi._report.page.summary import summary
from onnxsemi._report.page.trajectory import trajectory

VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """Elements with their attributes; refuses what is not nested."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)

    def of(self, name, class_=""):
        found = [a for n, a in self.elements if n == name]
        return [a for a in found if not class_ or class_ in (a.get("class") or "").split()]


def with_evidence(run, **arrays):
    """The same run with other arrays."""
    evidence = dataclasses.replace(run.kept.evidence, **arrays)
    return dataclasses.replace(run, kept=dataclasses.replace(run.kept, evidence=evidence))


def words(markup):
    return " ".join("".join(Page(str(markup)).text).split())


class TestSummary:
    def test_figures_and_the_claim(self):
        text = words(summary(kept(changes=((3, 3, 1), (2, 4, 2), (2, 4, 2)))))
        assert "98.00% → 99.00%" in text
        assert "+1.00 points, 95 % interval −1.23 to +0.45; 1 broken and 2 fixed of 100" in text
        assert "1.00 kB → 0.200 kB" in text
        assert "80.00% smaller (1,000 → 200 bytes); 3.50 bits" in text
        assert "✓ holdsthe change cannot lie below -0.5 points" in text
        assert "not measuredcompress --bench measures it" in text
        assert "said of both" in text
        assert "holds: what the test images say" in text
        assert "On 100 test images that the search never saw, top-1 accuracy changed" in text

    def test_without_labels_nothing_is_called_accuracy(self):
        page = render(made_run(labels=False, changes=((3, 3, 1), (3, 3, 2))))
        text = words(page)
        assert "accuracy" not in text.lower()
        assert "gives the float model's answer on 98.00%" in text
        assert "agreement on other images of that kind lies between 92.96% and 99.76%" in text
        assert "not known" in text
        assert "broken" not in text
        assert "answers changed 5" in page
        assert "broken" not in words(answers(made_run(labels=False)))


class TestTrajectory:
    def test_a_dot_a_trial_where_it_belongs(self):
        circles = Page(str(trajectory(kept()))).of("circle", "mark")
        assert [c["class"] for c in circles] == [
            "mark p-frontier", "mark p-frontier hollow", "mark p-descent",
        ]  # fmt: skip
        x, y = ([float(c[k]) for c in circles] for k in ("cx", "cy"))
        assert x == sorted(x)
        assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(0.25 / 0.4, abs=1e-3)
        assert y[0] < y[2] < y[1]  # 192, 191 and 150 right: up is better

    def test_the_float_line_lies_between_gain_and_loss(self):
        drawn = Page(str(trajectory(kept())))
        line = float(re.match(r"M\S+ (\S+)H", drawn.of("path", "float")[0]["d"])[1])
        y = [float(c["cy"]) for c in drawn.of("circle", "mark")]
        assert max(y[0], y[2]) < line < y[1]

    def test_the_ring_is_around_what_was_written(self):
        drawn = Page(str(trajectory(kept())))
        [ring] = drawn.of("circle", "ring")
        last = drawn.of("circle", "mark")[2]
        assert (ring["cx"], ring["cy"]) == (last["cx"], last["cy"])

    def test_what_a_dot_says(self):
        tips = [c["data-tip"] for c in Page(str(trajectory(kept()))).of("circle", "mark")]
        assert tips[1].split("\n") == [
            "Trial 2, frontier phase",
            "a plan of the frontier",
            "75.00 % smaller",
            "accuracy 75.00% (−20.00 points)",
            "broken/fixed 5/-35",
            "rejected: reason 2",
        ]
        assert "conv1, negative, to 2 bits" in tips[2]

    def test_a_trial_that_was_broken_off_says_at_most(self):
        def look_at_some(document):
            for trial in document["trials"]:
                trial["images_measured"] = 64

        def break_off(document):
            document["trials"][1]["decision"] = "postponed"

        some = said(made_run(), look_at_some)
        assert "at most" not in trajectory(some.kept)
        assert "at most 75.00%" in trajectory(said(some, break_off).kept)

    def test_no_trials(self):
        run = with_evidence(said(made_run(), trials=[]), tried=np.zeros(0))
        assert not Page(str(trajectory(run.kept))).of("circle", "mark")


class TestStrips:
    def test_a_strip_a_layer_in_two_orders(self):
        result = kept()
        drawn = Page(str(strips(result)))
        rows, found = drawn.of("div", "strip"), drawn.of("svg", "cells")
        assert [row["data-layer"] for row in rows] == ["conv1", "conv2"]
        assert len(found) == 4
        assert found[3]["data-order"] == "0 1 2 3 4 5 6 7"
        bits = result.document.plan.layers["conv2"]
        assert rows[1]["data-bits"] == " ".join(map(str, bits))

    def test_grouped_by_sign_then_bits(self):
        result = kept({"conv": 40})
        [layer] = layers_of(result)
        grouped = layer.grouped
        assert sorted(grouped.tolist()) == list(range(40))
        key = [(layer.signs[c], layer.bits[c], c) for c in grouped]
        assert key == sorted(key)

    def test_colours_cover_every_channel_once(self):
        result = kept({"conv": 40})
        text = str(strips(result))
        grouped = re.search(r"<svg[^>]*by-place.*?</svg>", text)[0]
        values = result.document.plan.layers["conv"]
        for bits in set(values):
            path = re.search(rf'<path d="([^"]*)" class="b{bits}"', grouped)[1]
            width = sum(float(w) for w in re.findall(r"h([\d.]+)v", path))
            assert width == pytest.approx(10 * values.count(bits))

    def test_sign_is_that_at_the_channels_own_bits(self):
        result = kept()
        values = [b for v in result.document.plan.layers.values() for b in v]
        ladder = result.evidence.bits.tolist()
        own = [
            row[ladder.index(b) if b in ladder else 0]
            for row, b in zip(result.evidence.delta_loss, values, strict=True)
        ]
        signs = np.concatenate([layer.signs for layer in layers_of(result)])
        assert signs.tolist() == np.where(np.array(own) > 0, 1, -1).tolist()

    def test_without_delta_loss(self):
        text = str(strips(kept(measured=False)))
        assert not Page(text).of("path", "neg")
        assert "was not measured" in text

    def test_one_channel(self):
        assert len(Page(str(strips(kept({"only": 1})))).of("svg", "cells")) == 2


class TestDistribution:
    def test_every_channel_is_in_a_bin_of_its_sign(self):
        values = kept({"conv": 300}).evidence.delta_loss[:, 1]
        found = counts(stretched(values, 60, 500), values)
        assert sum(n for _, s, n in found if s < 0) == (values <= 0).sum()
        assert sum(n for _, s, n in found if s > 0) == (values > 0).sum()

    def test_zero_belongs_to_the_negative(self):
        values = np.array([0.0, 0.0, 1e-4])
        assert [(s, n) for _, s, n in counts(stretched(values, 0, 100), values)] == [
            (-1, 2),
            (1, 1),
        ]

    def test_shares_are_said(self):
        result = kept({"conv": 200})
        text = words(distribution(result))
        for share in (result.evidence.delta_loss <= 0).mean(axis=0):
            assert f"{share:.1%} ≤ 0" in text


class TestSensitive:
    def test_most_sensitive_first_at_the_nearest_bitwidth(self):
        result = kept({f"layer{place:02}": 4 for place in range(12)})
        text = words(sensitive(result))
        assert "The 10 most sensitive of 24 semilayers at 4 bits" in text  # mean is 3.5
        evidence = result.evidence
        at = np.flatnonzero(evidence.group_bits == 4)
        most = at[np.argmax(evidence.group_kl[at])]
        head = Page(str(sensitive(result))).text
        first = next(t for t in head if t.startswith("layer") and t != "layer")
        assert first == f"layer{evidence.group_layer[most]:02}"


class TestAnswers:
    def test_counts_and_pictures(self):
        changes = ((3, 3, 1), (2, 4, 2), (0, 1, 2), (3, 3, 2))
        text = str(answers(made_run(changes=changes)))
        assert "4 of 100 answers changed (2 broken, 1 fixed, 1 still wrong)" in text
        assert "All of them are shown" in text
        assert len(Page(text).of("img")) == 4

    def test_some_of_many(self):
        run = made_run(changes=((3, 3, 1),) * 60)
        text = str(
            answers(
                with_evidence(
                    run,
                    shown=run.kept.evidence.shown[:48],
                    thumbnails=run.kept.evidence.thumbnails[:48],
                )
            )
        )
        assert "Shown are 48 of them" in text
        assert "32 more pictures" in text
        assert len(Page(text).of("img")) == 48

    def test_by_name(self):
        names = ["ant", "bee", "cat", "<dog>"]
        text = str(answers(made_run(changes=((3, 3, 1),), names=names)))
        assert "Numbers are classes" not in text
        assert "label &lt;dog&gt;</span><span>&lt;dog&gt; → bee" in text

    def test_nothing_changed(self):
        assert words(answers(made_run(changes=()))) == "No answer changed on 100 test images."

    def test_no_pictures(self):
        none = {"shown": np.zeros(0, int), "thumbnails": np.zeros((0, 1, 1, 1), np.uint8)}
        assert "no pictures" in answers(with_evidence(made_run(), **none))


def test_sizes():
    text = words(sizes(kept()))
    assert "1,000" in text
    assert "200" in text
    assert "+33.33%" in text


class TestPage:
    @pytest.mark.parametrize(
        "how",
        [
            {}, {"labels": False}, {"measured": False}, {"changes": ()}, {"layers": {"a": 1}},
            {"bits": (1,)}, {"bits": (8, 7, 6, 5, 4, 3, 2, 1), "layers": {"a": 64, "b": 512}},
        ],
        ids=str,
    )  # fmt: skip
    def test_nested_and_self_contained(self, how):
        page = Page(render(made_run(**how)))
        addresses = [a[k] for _, a in page.elements for k in ("src", "href") if k in a]
        assert all(address.startswith(("#", "data:")) for address in addresses)
        ids = [a["id"] for _, a in page.elements if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["href"][1:] for a in page.of("a")} <= set(ids)

    def test_nothing_is_loaded(self):
        text = render(made_run())
        assert not re.search(r"(?<!\w)(url\(|@import|fetch\(|https?://)", text)

    def test_everything_is_escaped(self):
        evil = "<script>alert(1)</script>\"'&$title"

        def speak(document):
            for key in ("output", "command", "model", "search_data", "tool", "stop", "profile"):
                document[key] = evil
            document["notes"].append(evil)
            document["skipped"].append({"layer": evil, "reason": evil})
            document["kernels"] = {"integer": {}, "float32": {evil: evil}}
            document["trials"][0]["reason"] = evil
            document["made_from"]["--exclude"] = [evil]

        run = said(made_run({evil: 4, "b": 4}, names=[evil] * 4, path=evil), speak)
        page = Page(render(run))
        assert len(page.of("script")) == 1
        assert sum(evil in t for t in page.text) >= 16
        assert any(a.get("data-layer") == evil for a in page.of("div"))

    def test_layers_in_the_types_of_onnx_are_counted(self):
        types = {"layers": {"a": ["UINT4"], "b": ["UINT2"]}, "others": ["c"]}
        run = said(made_run(), types=types)
        assert any("2 and 4 bits hold 2 of 3 layers" in text for text in Page(render(run)).text)

    def test_what_cannot_be_seen_is_shown_as_its_code(self):
        evil = "a\x1b[31m\u202eb\udcff"
        page = render(made_run({evil[:-1]: 4, "b": 4}, names=[evil] * 4, path=evil))
        assert page.encode()
        assert "a⟨1B⟩[31m⟨202E⟩b⟨DCFF⟩" in page
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]", page)

    def test_evidence_is_folded_and_the_rest_is_not(self):
        page = Page(render(made_run()))
        folds = page.of("details", "fold")
        assert len(folds) == 6
        assert not any("open" in fold for fold in folds)
        assert [a["id"] for a in page.of("section")] == [
            "summary", "classes", "frontier", "answers", "evidence", "about",
        ]  # fmt: skip

    def test_same_bytes(self):
        assert render(made_run()) == render(made_run())

    def test_the_script_is_the_one_that_the_policy_allows(self):
        page = Page(render(made_run()))
        [policy] = [a["content"] for a in page.of("meta") if "http-equiv" in a]
        assert "default-src 'none'" in policy
        assert "script-src 'sha256-" in policy

    def test_a_part_without_a_measurement_is_left_out(self):
        page = render(made_run(measured=False))
        assert 'id="delta-loss"' not in page
        assert 'id="sensitive"' in page

    def test_large_models_stay_small(self):
        layers = {f"layer{place}": 512 for place in range(10)}
        assert len(render(made_run(layers, bits=(8, 7, 6, 5, 4, 3, 2, 1)))) < 1_000_000

    def test_how_to_make_it_again(self):
        text = render(made_run())
        assert "onnxsemi compress model.onnx --data &#x27;my images.npz&#x27;" in text
        assert "ab" * 32 in text
