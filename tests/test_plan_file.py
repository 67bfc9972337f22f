"""Plans: arithmetic, the JSON file, and what is refused by name."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import SEPARABLE

import onnxsemi
from onnxsemi._atomic_file import check_writable, whole_file
from onnxsemi._errors import OutputError, PlanError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.channel_numbers import channel_ranges, parse_ranges
from onnxsemi._plan.layers import Semilayer, Sign, TargetLayer
from onnxsemi._run.plan_file import PlanFile, layers_of, read_plan

LAYERS = [
    TargetLayer("a", np.zeros((4, 2, 3, 3), np.float32)),
    TargetLayer("b", np.zeros((3, 5), np.float32)),
]
bitwidths = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 32])


def plan_file(bits):
    return PlanFile(
        model="abc", targets="hidden", exclude=("x*",), scheme="asymmetric",
        layers=layers_of(bits), tool="onnxsemi 0",
    )  # fmt: skip


class TestBitPlan:
    def test_compression_by_hand(self):
        plan = BitPlan.uniform(LAYERS).with_bits("a", [0, 1], 8).with_bits("b", [2], 4)
        assert plan.parameters == 4 * 18 + 3 * 5
        assert plan.weight_bits == 2 * 18 * (8 + 32) + 5 * (32 + 32 + 4)
        assert plan.compression == pytest.approx(1 - plan.weight_bits / (32 * 87), abs=1e-15)
        assert plan.saved_parameters == pytest.approx(87 - plan.weight_bits / 32, abs=1e-12)

    def test_the_papers_resnet50(self):
        """20,676,608 target parameters, 16,622,232 saved: 80.39 %."""
        plan = BitPlan({"all": (8,), "part": (6,)}, {"all": 2_844_320, "part": 17_832_288})
        assert plan.parameters == 20_676_608
        saved = 2_844_320 * 24 / 32 + 17_832_288 * 26 / 32
        assert plan.saved_parameters == saved
        assert round(100 * 16_622_232 / 20_676_608, 2) == 80.39
        assert plan.compression == pytest.approx(saved / 20_676_608, abs=1e-12)

    def test_changes_give_a_new_plan(self):
        plan = BitPlan.uniform(LAYERS)
        changed = plan.with_semilayer(Semilayer("a", Sign.POSITIVE, (1, 3), 6))
        assert plan.listed()["a"] == (32,) * 4
        assert changed.listed()["a"] == (32, 6, 32, 6)
        assert changed.float_channels("a") == (0, 2)
        assert changed.all_float() == plan
        with pytest.raises(TypeError):
            changed.bits["a"] = ()
        with pytest.raises(ValueError, match="read-only"):
            changed.bits["a"][0] = 8
        with pytest.raises(ValueError, match="read-only"):
            changed.channel_bits[0] = 8
        with pytest.raises(AttributeError):
            changed.channel_bits = plan.channel_bits

    @pytest.mark.parametrize("bits", [-1, 9, 16, 33])
    def test_bits_that_are_none(self, bits):
        with pytest.raises(ValueError, match=f"channel 0: {bits} bits"):
            BitPlan({"a": (bits,)}, {"a": 1})
        with pytest.raises(ValueError, match=f"'a': {bits} bits"):
            BitPlan({"a": (8,)}, {"a": 1}).with_bits("a", [0], bits)

    @pytest.mark.parametrize("bits", [300, -200, 2.5])
    def test_bits_that_no_byte_holds(self, bits):
        with pytest.raises(ValueError, match=f"'a', channel 1: {bits} bits"):
            BitPlan({"a": (8, bits)}, {"a": 1})

    def test_equal_are_the_same_bits_of_the_same_layers(self):
        plan = BitPlan({"a": (8, 4), "b": (2,)}, {"a": 3, "b": 5})
        assert plan == BitPlan({"a": [8, 4], "b": [2]}, {"a": 3, "b": 5})
        assert hash(plan) == hash(plan.with_bits("a", [1], 6).with_bits("a", [1], 4))
        others = [
            plan.with_bits("a", [0], 6),
            BitPlan({"a": (8,), "b": (4, 2)}, {"a": 3, "b": 5}),
            BitPlan({"a": (8, 4), "c": (2,)}, {"a": 3, "c": 5}),
            BitPlan({"a": (8, 4), "b": (2,)}, {"a": 3, "b": 6}),
        ]
        assert all(plan != other for other in others)
        assert plan != plan.listed()

    def test_digest_and_sums_stay_as_they_are(self):
        """The digest stands in plan files that were written before plans were arrays."""
        plan = BitPlan({"a": (8, 4, 0), "b": (32,)}, {"a": 2**30, "b": 5})
        assert plan.sha256 == hashlib.sha256(b"a=[8, 4, 0];b=[32]").hexdigest()
        assert plan.weight_bits == 12 * 2**30 + 160
        assert plan.widths == {0, 4, 8, 32}


def test_a_run_checks_the_bits_of_plans_from_outside_once(tmp_path, monkeypatch):
    """Its own plans follow from one another; of its file only the first is whole, and checked."""
    checked, real = [], onnxsemi._plan.bits._checked

    def counted(layer, bits):
        checked.append(layer)
        return real(layer, bits)

    monkeypatch.setattr("onnxsemi._plan.bits._checked", counted)
    rng, run = np.random.default_rng(0), onnxsemi.RunOptions(folder=tmp_path / "o.run")
    search = onnxsemi.SearchSettings(bits=(8, 4), max_drop=100)
    result = onnxsemi.compress(
        SEPARABLE.model(),
        rng.normal(size=(48, 3, 8, 8)).astype(np.float32),
        output=tmp_path / "o.onnx",
        settings=onnxsemi.Settings(search=search, run=run, force=True, allow_loss=True),
    )
    assert result.trajectory.trials
    assert not checked
    kept = onnxsemi.pareto(run.folder)
    assert len(kept.points) > 3
    assert sorted(checked) == sorted(result.plan.bits)


class TestFile:
    @settings(deadline=None, derandomize=True)
    @given(
        st.dictionaries(st.text(min_size=1), st.lists(bitwidths, min_size=1, max_size=9).map(tuple))
    )
    def test_round_trip(self, tmp_path_factory, bits):
        path = tmp_path_factory.mktemp("plan") / "p.json"
        written = plan_file(bits)
        path.write_text(written.to_json(), encoding="utf-8")
        assert read_plan(path) == written
        assert read_plan(path).to_json() == written.to_json()

    def test_text_is_for_people(self):
        text = plan_file({"conv": (8, 8, 8, 4, 32)}).to_json()
        assert json.loads(text)["layers"]["conv"] == {
            "channels": 5,
            "bits": {"32": "4", "8": "0-2", "4": "3"},
        }

    def test_fit(self):
        plan = plan_file({"b": (8, 8, 4), "a": (2, 32, 2, 2)}).fit(LAYERS)
        assert list(plan.bits) == ["a", "b"]  # graph order, whatever the file's
        assert plan.channel_params == {"a": 18, "b": 5}

    @pytest.mark.parametrize(
        ("bits", "words"),
        [
            ({"a": (8,) * 4, "b": (8,) * 3, "c": (8,)}, "'c' is no target layer"),
            ({"a": (8,) * 4}, "nothing about target layer 'b'"),
            ({"a": (8,) * 5, "b": (8,) * 3}, "'a' has 4 channels, the plan 5"),
        ],
    )
    def test_plans_that_do_not_fit(self, bits, words):
        with pytest.raises(PlanError, match=words):
            plan_file(bits).fit(LAYERS)

    @pytest.mark.parametrize(
        ("entry", "words"),
        [
            ({"channels": 4, "bits": {"8": "0-2"}}, "channel 3 is missing"),
            ({"channels": 4, "bits": {"8": "0-3", "4": "2"}}, "channel 2 stands twice"),
            ({"channels": 4, "bits": {"8": "0-4"}}, "channel 4 is none of its 4"),
            ({"channels": 4, "bits": {"9": "0-3"}}, "9 bits; allowed are 0 to 8 or 32"),
            ({"channels": 4, "bits": {"-1": "0-3"}}, "-1 bits; allowed are"),
            ({"channels": 4, "bits": {"eight": "0-3"}}, "eight"),
            ({"channels": 4, "bits": {"8": "a-b"}}, "matching regex"),
            ({"channels": 4, "bits": {"8": "3-0"}}, "'3-0' is no channel range"),
            ({"channels": 4, "bits": {"8": "-1"}}, "matching regex"),
            ({"channels": 4, "bits": {"8": ""}}, "matching regex"),
            ({"channels": 4, "bits": {"8": "0-99999999999"}}, "channel 4 is none of its 4"),
            ({"channels": 99999999999, "bits": {"8": "0-3"}}, "<= 1000000"),
            ({"channels": 0, "bits": {}}, "channels"),
            ({"bits": {"8": "0-3"}}, "missing required field `channels`"),
            ({"channels": 4}, "missing required field `bits`"),
            ({"channels": 4, "bits": [8, 8, 8, 8]}, "Expected `object`"),
            ([8, 8, 8, 8], "Expected `object`"),
        ],
        ids=str,
    )
    def test_wrong_layers_are_refused_by_name(self, tmp_path, entry, words):
        document = json.loads(plan_file({}).to_json())
        document["layers"]["conv"] = entry
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(document))
        with pytest.raises(PlanError) as caught:
            read_plan(path)
        assert "plan.json" in str(caught.value)
        assert "'conv'" in str(caught.value)
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "not a JSON"),
            ("{", "not a JSON"),
            ("[]", "schema None"),
            ('{"schema": 3}', "schema 3"),
            ('{"schema": 1}', "schema 1"),
            ('{"schema": 2}', "missing required field `model`"),
            ('{"schema": 2, "model": 3}', r"got `int` - at `\$.model`"),
            ("[" * 100000, "not a JSON"),
        ],
    )
    def test_files_that_are_no_plan(self, tmp_path, text, words):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(PlanError, match=words):
            read_plan(tmp_path / "plan.json")

    def test_absent_or_binary(self, tmp_path):
        with pytest.raises(PlanError, match="cannot be read"):
            read_plan(tmp_path / "absent.json")
        (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(PlanError, match="not a JSON"):
            read_plan(tmp_path / "binary.json")

    @settings(deadline=None, derandomize=True)
    @given(st.sets(st.integers(0, 60), min_size=1))
    def test_ranges_round_trip(self, channels):
        assert parse_ranges(channel_ranges(sorted(channels)), 61) == sorted(channels)


class TestWholeFile:
    def test_success_replaces(self, tmp_path):
        path = tmp_path / "out"
        path.write_text("old")
        with whole_file(path) as scratch:
            scratch.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]

    def write_half(self, path, error):
        with whole_file(path) as scratch:
            scratch.write_text("half")
            raise error

    @pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
    def test_failure_leaves_everything_as_it_was(self, tmp_path, error):
        path = tmp_path / "out"
        path.write_text("old")
        with pytest.raises(type(error)):
            self.write_half(path, error)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_full_disk_is_one_line(self, tmp_path):
        with pytest.raises(OutputError, match="No space"):
            self.write_half(tmp_path / "out", OSError(28, "No space left on device"))
        assert not list(tmp_path.iterdir())

    def test_places_that_cannot_be_written(self, tmp_path):
        for path, words in ((tmp_path, "folder"), (tmp_path / "no" / "out", "does not exist")):
            with pytest.raises(OutputError, match=words):
                check_writable(path)
