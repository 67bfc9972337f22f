"""Sizes that a file claims are compared with what it holds, before anything is made of them."""

import hashlib
import json
import os
import time
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from residual_net import residual_net
from run_files import change_head

import onnxsemi
from onnxsemi import DataError, ModelError, PlanError, RunError
from onnxsemi._model.loader import load_proto
from onnxsemi._plan.channel_numbers import parse_ranges
from onnxsemi._reading import MOST_TEXT, bytes_of, is_there, reading, regular_file
from onnxsemi._run.folder import MadeOf, made_of
from onnxsemi._run.plan_file import MOST_CHANNELS, plan_of, read_plan
from onnxsemi._run.store import NO_RUN, read, write, write_arrays

HUGE = 10**11
SECONDS = 10


@pytest.fixture(autouse=True)
def _at_once():
    """No reader takes long, whatever else the machine does."""
    began = time.process_time()
    yield
    assert time.process_time() - began < SECONDS


def images(path):
    return onnxsemi.load_images(path, "x", (None, 3, 8, 8))


class TestContext:
    @pytest.mark.parametrize(
        "error", [KeyError("a"), RecursionError(), MemoryError(), OSError(5, "I")]
    )
    def test_whatever_is_raised(self, error):
        said = r"^m\.onnx: no model: .+; do this$"
        with (
            pytest.raises(ModelError, match=said) as found,
            reading(ModelError, "m.onnx: no model", "do this"),
        ):
            raise error
        assert found.value.__cause__ is error

    def test_what_says_more_stays(self):
        with pytest.raises(PlanError, match=r"^as it is$"), reading(ModelError, "no"):
            raise PlanError("as it is")

    def test_who_interrupts_is_heard(self):
        with pytest.raises(KeyboardInterrupt), reading(ModelError, "no"):
            raise KeyboardInterrupt

    def test_names_that_no_system_has(self, tmp_path):
        for name in ("a" * 5000, "a\0b"):
            assert not is_there(tmp_path / name)
            with pytest.raises(DataError, match="cannot be read"):
                regular_file(tmp_path / name, DataError)
            for command in (onnxsemi.inspect, onnxsemi.pareto, read_plan):
                with pytest.raises(onnxsemi.OnnxSemiError):
                    command(str(tmp_path / name))

    def test_a_text_beyond_all_texts(self, tmp_path):
        with (tmp_path / "large.json").open("wb") as file:
            file.truncate(MOST_TEXT + 1)
        with pytest.raises(PlanError, match=r"large\.json: has 64 MB, and no such file"):
            bytes_of(tmp_path / "large.json", PlanError)

    @pytest.mark.parametrize("reads", [onnxsemi.inspect, read_plan, images])
    def test_fifos_are_not_waited_for(self, tmp_path, reads):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(onnxsemi.OnnxSemiError, match="pipe: is no regular file; name a file"):
            reads(tmp_path / "pipe")


def tensor(**fields):
    return TensorProto(name="w", **fields)


def model_of(weights: TensorProto, body: str = "y = Conv (x, w)") -> onnx.ModelProto:
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[n, 1, 8, 8] x) => (float[n, 1, 6, 6] y) {{ {body} }}
    """)
    model.graph.initializer.append(weights)
    return model


class TestModels:
    @pytest.mark.parametrize(
        ("weights", "said"),
        [
            (tensor(dims=[HUGE, 1, 3, 3], data_type=1, raw_data=b"1234"), "claims 900,000,000,000"),
            (tensor(dims=[1, 1, 3, 3], data_type=1, raw_data=b"1234"), "has 4 bytes, and 36"),
            (tensor(dims=[1, 1, 3, 3], data_type=10, raw_data=bytes(36)), "and 18 are needed"),
            (tensor(dims=[1, 1, 3, 3], data_type=22, raw_data=bytes(9)), "and 5 are needed"),
            (tensor(dims=[1, -1, 3, 3], data_type=1), "shape"),
            (tensor(dims=[1, 1, 3, 3], data_type=77, raw_data=bytes(9)), "unknown type 77"),
        ],
        ids=["claims", "short", "float16", "int4", "negative", "type"],
    )
    def test_tensors(self, weights, said, tmp_path):
        onnx.save(model_of(weights), tmp_path / "m.onnx")
        with pytest.raises(ModelError, match=rf"m\.onnx: .*{said}"):
            load_proto(tmp_path / "m.onnx")

    @pytest.mark.parametrize("type_", ["INT4", "UINT4", "INT8", "FLOAT16", "FLOAT", "BOOL"])
    def test_tensors_that_are_whole(self, type_):
        kind = getattr(TensorProto, type_)
        values = np.ones((3, 3), helper.tensor_dtype_to_np_dtype(kind))
        weights = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
        model = model_of(weights)
        model.graph.initializer.append(numpy_helper.from_array(values, "other"))
        load_proto(model)

    @pytest.mark.parametrize(
        "body",
        [
            f"s = Constant <value = int64[4] {{{HUGE},1,3,3}}> ()\nv = ConstantOfShape (s)",
            f"s = Constant <value = int64[4] {{{HUGE},1,3,3}}> ()\nv = Expand (w, s)",
            f"s = Constant <value = int64[4] {{{2**25},1,3,3}}> ()\nv = Expand (w, s)",
            f"s = Constant <value = int64[4] {{{HUGE},1,1,1}}> ()\nv = Tile (w, s)",
            f"a = Constant <value = int64 {{0}}> ()\nb = Constant <value = int64 {{{HUGE}}}> ()\n"
            "c = Constant <value = int64 {1}> ()\nv = Range (a, b, c)",
        ],
        ids=["ConstantOfShape", "Expand", "Expand to 1 GB", "Tile", "Range"],
    )
    def test_what_nodes_make_of_constants(self, body, tmp_path):
        weights = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
        model = model_of(weights, f"{body}\ny = Conv (x, w)")
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(ModelError, match=r"m\.onnx: tensor 'v' is to have [\d,]+ values"):
            onnxsemi.inspect(tmp_path / "m.onnx")

    def test_text_that_is_none(self, tmp_path):
        data = residual_net().SerializeToString().replace(b"residual", b"resid\xffal", 1)
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(ModelError, match=r"GraphProto\.name holds .*no text in UTF-8"):
            onnxsemi.inspect(tmp_path / "m.onnx")

    def test_too_many_nodes(self, monkeypatch):
        monkeypatch.setattr("onnxsemi._model.bounds.MOST_NODES", 10)
        with pytest.raises(ModelError, match="it has 23 nodes; at most 10 are read"):
            load_proto(residual_net())

    @pytest.mark.parametrize("location", ["a" * 5000, "a\0b", ".", "/dev/zero"])
    def test_names_of_external_data(self, location, tmp_path):
        weights = tensor(dims=[1, 1, 3, 3], data_type=1, data_location=TensorProto.EXTERNAL)
        weights.external_data.add(key="location", value=location)
        (tmp_path / "m.onnx").write_bytes(model_of(weights).SerializeToString())
        with pytest.raises(ModelError, match="external data cannot be read"):
            onnxsemi.inspect(tmp_path / "m.onnx")


class TestPlans:
    def plan(self, **changes):
        layers = {"c": {"channels": 4, "bits": {"8": "0-3"}}} | changes.pop("layers", {})
        plan = {"schema": 2, "model": "a" * 64, "targets": "all", "scheme": "symmetric"}
        return json.dumps(plan | {"layers": layers} | changes)

    @pytest.mark.parametrize(
        ("layer", "said"),
        [
            ({"channels": HUGE, "bits": {"8": f"0-{HUGE - 1}"}}, "<= 1000000"),
            ({"channels": 4, "bits": {"8": "0-3," * 9 + "0-3"}}, "channel 0 stands twice"),
            ({"channels": 4, "bits": {"8": "0-3", "4": "2"}}, "channel 2 stands twice"),
            ({"channels": 4, "bits": {"8": "0,2-3"}}, "channel 1 is missing"),
            ({"channels": 4, "bits": {"8": "0" * 9999}}, "no channel range"),
            ({"channels": 4, "bits": {"8": f"0-{'9' * 5000}"}}, "no channel range"),
        ],
    )
    def test_layers(self, layer, said):
        with pytest.raises(PlanError, match=said):
            plan_of(self.plan(layers={"c": layer}))

    def test_layers_together(self):
        most = {"channels": MOST_CHANNELS, "bits": {"8": f"0-{MOST_CHANNELS - 1}"}}
        with pytest.raises(PlanError, match="1,000,004 channels; a plan has at most 1,000,000"):
            plan_of(self.plan(layers={"d": most}))
        found = plan_of(self.plan(layers={"c": most}))
        assert len(found.bits["c"]) == MOST_CHANNELS

    def test_ranges_are_not_counted_one_by_one(self):
        """A text of ten megabytes that says a million channels a million times."""
        many = ",".join(["0-999999"] * 10**6)
        with pytest.raises(PlanError, match="stands twice"):
            parse_ranges(many, 10**6)

    def test_repeated_keys_are_found_at_once(self):
        keys = [f'"k{n}": 1' for n in range(200_000)]
        with pytest.raises(PlanError, match="'k199999' stands twice"):
            plan_of("{" + ",".join([*keys, keys[-1]]) + "}")

    def test_evidence_is_not_counted_one_by_one(self):
        most = {"channels": MOST_CHANNELS, "bits": {"8": f"0-{MOST_CHANNELS - 1}"}}
        known = {"channels": f"0-{MOST_CHANNELS - 1}", "delta_loss": 0, "kl": 0}
        evidence = {str(b): dict.fromkeys(("positive", "negative"), known) for b in range(1, 9)}
        plan_of(self.plan(layers={"c": most}, evidence={"c": evidence}))


class TestImages:
    def test_a_strip_that_would_grow(self, tmp_path):
        image = pytest.importorskip("PIL.Image")
        image.new("L", (2, 60_000)).save(tmp_path / "a.png")
        options = onnxsemi.DataOptions(resize=256, crop=224)
        with pytest.raises(DataError, match=r"a\.png: not a readable image: 2 x 60000 pixels"):
            onnxsemi.load_images(tmp_path, "x", (None, 3, 224, 224), options)

    def test_a_bomb_that_pillow_only_warns_of(self, tmp_path):
        image = pytest.importorskip("PIL.Image")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
        with pytest.raises(DataError, match=r"a\.png: not a readable image: Image size"):
            onnxsemi.load_images(tmp_path, "x", (None, 3, 8, 8))

    def test_another_format_by_that_name(self, tmp_path):
        """Pillow would start Ghostscript for one of these."""
        (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        with pytest.raises(DataError, match=r"a\.png: not a readable image: cannot identify"):
            onnxsemi.load_images(tmp_path, "x", (None, 3, 8, 8))

    def test_a_table_whose_field_never_ends(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "labels.csv").write_text('file,label\n"' + "a" * 200_000)
        options = onnxsemi.DataOptions(labels=str(tmp_path / "labels.csv"))
        with pytest.raises(DataError, match="images: cannot be read: field larger than"):
            onnxsemi.load_images(tmp_path / "images", "x", (None, 3, 8, 8), options)

    @pytest.mark.parametrize("label", ["9" * 30, "9" * 5000])
    def test_a_label_beyond_all_numbers(self, tmp_path, label):
        image = pytest.importorskip("PIL.Image")
        image.new("L", (8, 8)).save(tmp_path / "a.png")
        (tmp_path / "labels.csv").write_text(f"file,label\na.png,{label}\n")
        options = onnxsemi.DataOptions(labels=str(tmp_path / "labels.csv"))
        with pytest.raises(DataError, match="cannot be read"):
            onnxsemi.load_images(tmp_path, "x", (None, 3, 8, 8), options)

    @pytest.mark.parametrize("key", ["y", "mean"])
    def test_arrays_beside_the_images(self, tmp_path, key, monkeypatch):
        monkeypatch.setattr("onnxsemi._data.npz._MOST_BYTES", 100)
        x = np.zeros((2, 8, 8, 3), np.uint8)
        np.savez(tmp_path / "x.npz", x=x, **{key: np.zeros(101, np.uint8)})
        with pytest.raises(DataError, match=f"'{key}' has 101 bytes, at most 100 are read"):
            onnxsemi.load_images(tmp_path / "x.npz", "x", (None, 3, 8, 8))

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_an_archive_that_is_made_to_fill_the_memory(self, tmp_path, order, monkeypatch):
        monkeypatch.setattr("onnxsemi._data.npz._MOST_BYTES", 1000)
        monkeypatch.setattr("onnxsemi._data.source.MEMORY_LIMIT", 1000)
        x = np.zeros((200, 80, 80, 3), np.uint8, order=order)
        np.savez_compressed(tmp_path / "x.npz", x=x)
        with pytest.raises(DataError, match="more than 100 times as large"):
            onnxsemi.load_images(tmp_path / "x.npz", "x", (None, 3, 80, 80))


class TestRuns:
    def test_json_that_is_deep(self, tmp_path):
        text = b"[" * 100_000 + b"]" * 100_000
        digest = hashlib.sha256(NO_RUN.encode() + text).hexdigest()
        head = f'{{"run": "{NO_RUN}", "sha256": "{digest}", "content": '
        (tmp_path / "run.json").write_bytes(head.encode() + text + b"}\n")
        with pytest.raises(RunError, match=r"run\.json: is of another version: maximum recursion"):
            made_of(tmp_path)

    def test_settings_are_typed_before_work_begins(self, tmp_path):
        write(tmp_path / "run.json", MadeOf({"model": "m"}, {}), NO_RUN)
        change_head(tmp_path, measured=[1, 2])
        with pytest.raises(RunError, match=r"run\.json: is of another version: Expected `object`"):
            made_of(tmp_path)

    def test_an_array_that_claims_more(self, tmp_path):
        write_arrays(tmp_path / "a.npz", {"a": np.zeros(3)}, NO_RUN)
        with pytest.raises(RunError):
            read(tmp_path / "a.npz", MadeOf, NO_RUN, "delete it")
