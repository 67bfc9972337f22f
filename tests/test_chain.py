"""A model run as a chain of segments is the whole model, whatever was kept and tried before."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import HEAD, NETS, STEM, STEM_SHAPES, TIED, Net, conv, head_shapes, images

from onnxsemi._data.images import ImageSet
from onnxsemi._errors import ModelError
from onnxsemi._evaluation.chain import Chain
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.segments import find_chain, find_steps, segment_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._runtime.sessions import Session

COUNT = 37  # no multiple of the images in one run
RELATIVE = 1e-5  # float32 noise: segments may be fused otherwise than the whole
DENSE = Net(
    STEM
    + conv("c1", "a", "pads = [1,1,1,1]")
    + "j1 = Concat <axis = 1> (a, c1)\n"
    + conv("c2", "j1", "pads = [1,1,1,1]")
    + "last = Concat <axis = 1> (a, c1, c2)\n"
    + HEAD,
    {**STEM_SHAPES, "c1_w": (4, 6, 3, 3), "c2_w": (4, 10, 3, 3), **head_shapes(14)},
)
"""Every layer's output goes on beside the others."""
ALL_NETS = {**NETS, "tied": TIED, "dense": DENSE}
each_net = pytest.mark.parametrize("name", ALL_NETS)


def workload_of(path: Path, net: Net, threads: int = 2) -> Workload:
    onnx.save(net.model(), path)
    classifier = read_model(path, ReadOptions(targets=TargetPolicy.ALL))
    data = ImageSet("noise", images(COUNT, seed=5), np.zeros(COUNT, np.int64))
    return Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), threads)


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workload]:
    folder = tmp_path_factory.mktemp("chain")
    return {name: workload_of(folder / f"{name}.onnx", net) for name, net in ALL_NETS.items()}


def random_plan(generator: np.random.Generator, near: BitPlan) -> BitPlan:
    """Some channels of one layer, or of two, at other bits."""
    plan = near
    for layer in generator.permutation(list(near.bits))[: generator.integers(0, 3)]:
        count = len(near.bits[layer])
        channels = generator.permutation(count)[: generator.integers(1, count + 1)]
        plan = plan.with_bits(str(layer), channels.tolist(), int(generator.choice([2, 3, 8, 32])))
    return plan


def close(one: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(one - other).max() <= RELATIVE * np.abs(other).max()


class TestSegments:
    @each_net
    def test_each_begins_where_the_one_before_ends(self, benches, name):
        classifier = benches[name].classifier
        segments = find_chain(classifier, (3, 8, 8))
        assert segments[0].takes[0] == classifier.ends.image.name
        assert segments[-1].gives[0] == classifier.ends.logits
        for before, after in pairwise(segments):
            assert before.gives[0] == after.takes[0]
        assert frozenset().union(*(s.layers for s in segments)) == {
            layer.name for layer in classifier.layers
        }

    @each_net
    def test_one_after_the_other_they_give_the_logits(self, benches, name):
        classifier = benches[name].classifier
        pixels = images(4, seed=1)
        whole = Session(classifier.proto.SerializeToString())
        tensor = pixels
        for segment in find_chain(classifier, (3, 8, 8)):
            part = Session(segment_model(classifier, segment, {}))
            assert part.inputs == segment.takes
            tensor = part.run({segment.takes[0]: tensor})[segment.gives[0]]
        close(tensor, whole.run({classifier.ends.image.name: pixels})[classifier.ends.logits])

    @pytest.mark.parametrize(
        ("name", "count"),
        [
            ("identity", 3),  # stem; block; classifier
            ("projection", 3),
            ("bottleneck", 4),
            ("separable", 4),
            ("dense", 3),  # nothing stands alone inside
            ("tied", 5),
        ],
    )
    def test_there_is_one_for_each_block(self, benches, name, count):
        classifier = benches[name].classifier
        assert len(find_chain(classifier, (3, 8, 8))) == count

    def test_shared_weights_belong_to_both_segments(self, benches):
        classifier = benches["tied"].classifier
        segments = find_chain(classifier, (3, 8, 8))
        assert sum("t1" in segment.layers for segment in segments) == 2


class TestSteps:
    @each_net
    def test_each_begins_at_a_target_layer(self, benches, name):
        """What goes on beside goes along; shared weights have a node in two steps."""
        classifier = benches[name].classifier
        steps = find_steps(classifier, (3, 8, 8))
        nodes = {node for site in classifier.sites for node in site.nodes}
        targets = [node for node in classifier.proto.graph.node if node.name in nodes]
        beginning = [step for step in steps if step.layers]  # what lies before may be one, too
        for step, target in zip(beginning, targets, strict=True):
            assert target.input[0] in step.takes
            assert target.name in {classifier.proto.graph.node[i].name for i in step.nodes}
        every = set(range(len(classifier.proto.graph.node)))
        assert set().union(*(step.nodes for step in steps)) == every

    @each_net
    def test_one_after_the_other_they_give_the_logits(self, benches, name):
        classifier = benches[name].classifier
        pixels = images(4, seed=1)
        there = {classifier.ends.image.name: pixels}
        for step in find_steps(classifier, (3, 8, 8)):
            new = replace(step, gives=tuple(name for name in step.gives if name not in there))
            part = Session(segment_model(classifier, new, {}))
            there |= part.run({name: there[name] for name in step.takes})
            there = {name: there[name] for name in step.gives}
        whole = Session(classifier.proto.SerializeToString())
        expected = whole.run({classifier.ends.image.name: pixels})
        close(there[classifier.ends.logits], expected[classifier.ends.logits])


class TestChain:
    @each_net
    def test_any_sequence_of_plans_and_images(self, benches, name):
        """Against the whole model with the plan's weights, on all images."""
        workload = benches[name]
        generator = np.random.default_rng(len(name))
        chain = Chain(workload)
        current = BitPlan.uniform(workload.classifier.layers)
        chain.keep(current)
        for _ in range(8):
            plan = random_plan(generator, current)
            chosen = np.sort(generator.permutation(COUNT)[: generator.integers(1, COUNT + 1)])
            simulated = simulate(
                workload.classifier, rounded(workload.classifier.layers, plan, workload.rounding)
            )
            close(chain.logits(plan, chosen), workload.forward(simulated)[chosen])
            if generator.random() < 0.5:
                chain.keep(plan)
                current = plan

    @pytest.mark.parametrize("name", ["identity", "projection", "tied", "fixed-batch", "dense"])
    @pytest.mark.parametrize(("threads", "images_kept"), [(1, None), (3, None), (2, 0), (2, 11)])
    def test_same_bytes_whatever_threads_and_memory(self, benches, name, threads, images_kept):
        plans = [BitPlan.uniform(benches[name].classifier.layers, bits) for bits in (32, 8, 3)]
        some = np.arange(0, COUNT, 2)

        def results(workload: Workload) -> list[bytes]:
            chain, found = Chain(workload), []
            if workload is not benches[name] and images_kept is not None:
                rows = [values.shape[1:] for values in chain._kept._values]
                each = sum(4 * int(np.prod(row)) for row in rows)
                chain._kept = type(chain._kept)(rows, COUNT, images_kept * each)
            for current in plans[:2]:
                chain.keep(current)
                for plan in plans:
                    found.append(chain.logits(plan, some).tobytes())
                    found.append(chain.logits(plan, np.arange(COUNT)).tobytes())
            return found

        other = replace(benches[name], threads=threads)
        assert results(other) == results(benches[name])

    def test_a_small_bound_runs_image_by_image_with_the_same_bytes(self, benches):
        workload = benches["projection"]
        plan = BitPlan.uniform(workload.classifier.layers, 4)
        tight = replace(workload, memory=1)
        assert tight.rows(16) == 1
        every = np.arange(COUNT)
        assert (
            Chain(tight).logits(plan, every).tobytes()
            == Chain(workload).logits(plan, every).tobytes()
        )

    def test_what_comes_before_a_change_is_not_run_again(self, benches, monkeypatch):
        workload = benches["bottleneck"]
        start = BitPlan.uniform(workload.classifier.layers)
        chain, every = Chain(workload), np.arange(COUNT)
        chain.keep(start)
        late = start.with_bits("scores", [0], 4)
        later = start.with_bits("scores", [1], 4)
        chain.logits(late, every)
        ran: list[str] = []
        run = Session.run

        def counted(session: Session, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            ran.extend(session.inputs)
            return run(session, feeds)

        monkeypatch.setattr(Session, "run", counted)
        chain.logits(later, every)
        assert len(set(ran)) == 1  # the last segment only
        ran.clear()
        chain.logits(start.with_bits("stem", [0], 4), every)
        assert len(set(ran)) == 4

    def test_a_logit_that_is_not_finite_is_named(self, benches):
        workload = benches["identity"]
        pixels = images(COUNT, seed=5)
        pixels[7] = np.finfo(np.float32).max
        bad = replace(workload, images=ImageSet("noise", pixels, np.zeros(COUNT, np.int64)))
        plan = BitPlan.uniform(workload.classifier.layers)
        with pytest.raises(ModelError, match="image 7 of noise"):
            Chain(bad).logits(plan, np.arange(3, COUNT))
