"""What a small run does once: shapes, verifications, roundings of a plan, image files; how many
sessions."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from PIL import Image

from onnxsemi import RunOptions, Settings, compress
from onnxsemi._data import source
from onnxsemi._evaluation import workload
from onnxsemi._model import shapes as rows
from onnxsemi._pipeline import output as write
from onnxsemi._rounding.sequential import SequentialRounder

pytestmark = pytest.mark.slow

LAYERS = 5
MOST_SESSIONS = 150
ELSEWHERE = 40  # two for each of the layers that are measured exactly, seven to verify a file


def net():
    """A plain classifier of five target layers, of seeded weights."""
    shapes = {"w1": (6, 3, 3, 3), "w2": (8, 6, 3, 3), "w3": (8, 8, 3, 3), "w4": (8, 8, 3, 3)}
    convs = "\n".join(
        f"c{n} = Conv <pads = [1,1,1,1]> ({'image' if n == 1 else f'r{n - 1}'}, w{n})\n"
        f"r{n} = Relu (c{n})"
        for n in range(1, LAYERS)
    )
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,8,8] image) => (float[N,5] scores) {{
        {convs}
        pooled = GlobalAveragePool (r4)
        flat = Flatten (pooled)
        scores = Gemm <transB = 1> (flat, w5)
    }}""")
    rng = np.random.default_rng(0)
    for name, shape in (shapes | {"w5": (5, 8)}).items():
        values = rng.normal(0, 2 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass
class Counted:
    """Calls of the functions that do the work.

    Attributes:
        sessions: Sessions of ONNX Runtime that were opened.
        shapes: Times that a model was run for its shapes.
        files: Verified files, by what stands in them.
        models: Plans that gave logits, by their digests; "" is the float model.
        answered: Images that the float model gave logits of, by what they show.
        rounded: Plans that were rounded layer after layer, by their digests and whoever rounded.
    """

    sessions: int = 0
    shapes: int = 0
    files: Counter[bytes] = field(default_factory=Counter)
    models: set[str] = field(default_factory=set)
    answered: Counter[bytes] = field(default_factory=Counter)
    rounded: Counter[tuple[int, str]] = field(default_factory=Counter)


@pytest.fixture(scope="module", params=[60, 2000], ids=["few", "many"])
def run(request, tmp_path_factory):
    """What one run of ``compress`` did, and what it came to."""
    counted, folder = Counted(), tmp_path_factory.mktemp("counts")
    session, running = onnxruntime.InferenceSession, rows._found_by_running
    verify, rounding = write.verify, SequentialRounder.__call__

    def opened(*args, **kwargs):
        counted.sessions += 1
        return session(*args, **kwargs)

    def ran(*args):
        counted.shapes += 1
        return running(*args)

    def verified(path, *args):
        counted.files[path.read_bytes()] += 1
        verify(path, *args)

    def rounded(self, plan, progress, known):
        counted.rounded[id(self), plan.sha256] += 1
        return rounding(self, plan, progress, known)

    forward, answers, floats = workload.forward, workload.Workload.answers, set[bytes]()

    def answered(self, model, spent=None):
        plan = model._rounded
        counted.models.add("" if plan is None else plan.plan.sha256)
        if plan is None:
            floats.add(self.classifier.proto.SerializeToString())
            counted.answered.update(self.images.digests())
        return answers(self, model, spent)

    def ran_here(model, ends, images, *args, **kwargs):
        if model.SerializeToString() in floats:
            counted.answered.update(images.digests())
        return forward(model, ends, images, *args, **kwargs)

    images = np.random.default_rng(1).normal(size=(request.param + 100, 3, 8, 8))
    data = np.float32(images)
    settings = Settings(
        run=RunOptions(folder=folder / "run"),
        rounding_samples=32,
        max_memory=32 * 2**30,  # plenty, on whatever machine
        threads=1,
        force=True,
        allow_loss=True,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(onnxruntime, "InferenceSession", opened)
        patched.setattr(rows, "_found_by_running", ran)
        patched.setattr(workload, "forward", ran_here)
        patched.setattr(workload.Workload, "answers", answered)
        patched.setattr(write, "verify", verified)
        patched.setattr(SequentialRounder, "__call__", rounded)
        found = compress(
            net(),
            data[100:],
            output=folder / "small.onnx",
            test_data=data[:100],
            settings=settings,
        )
    return counted, found, folder


def test_shapes_are_found_once(run):
    assert run[0].shapes == 1


def test_what_is_written_is_verified_once(run):
    counted, found, folder = run
    assert (folder / "small.onnx").read_bytes() in counted.files
    assert (folder / "run" / "best.onnx").read_bytes() in counted.files
    assert set(counted.files.values()) == {1}
    assert len(counted.files) <= 2  # the best on the way, and the output
    assert found.plan.saved_parameters > 0


def test_no_plan_is_rounded_twice(run):
    counted = run[0].rounded
    assert len(counted) > 2
    assert set(counted.values()) == {1}


def test_each_image_is_answered_once_by_the_float_model(run):
    """For its labels, for what a pass takes, and for what plans and gradients begin with."""
    counted, found, _ = run
    assert len(counted.models) > 3
    assert len(counted.answered) == found.search.total + found.report.answers.total
    assert set(counted.answered.values()) == {1}


def test_sessions(run):
    """For each plan one a layer but the last, and one of the whole; all else does not grow."""
    counted, _, _ = run
    assert counted.sessions <= MOST_SESSIONS
    assert counted.sessions - LAYERS * len(counted.rounded) <= ELSEWHERE


def test_image_files_are_decoded_once(tmp_path, monkeypatch):
    """Of folders that are too large for the memory, too."""
    rng, opened, decode = np.random.default_rng(2), Counter[str](), Image.open
    for place, count in (("search", 40), ("test", 30)):
        (tmp_path / place).mkdir()
        for number, pixels in enumerate(rng.integers(0, 256, (count, 8, 8, 3), np.uint8)):
            Image.fromarray(pixels).save(tmp_path / place / f"{number}.png")

    def counted(path, **options):
        opened[f"{path.parent.name}/{path.name}"] += 1
        return decode(path, **options)

    monkeypatch.setattr(source, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(Image, "open", counted)
    settings = Settings(rounding_samples=16, threads=1, force=True, allow_loss=True)
    compress(
        net(),
        tmp_path / "search",
        output=tmp_path / "small.onnx",
        test_data=tmp_path / "test",
        settings=settings,
    )
    assert len(opened) == 70
    assert set(opened.values()) == {1}
