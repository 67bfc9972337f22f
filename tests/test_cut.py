"""A model cut in two at a layer is still the same model, whatever rows are put through it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_models import NETS, TIED, images

from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.cut import cut
from onnxsemi._model.outputs import only_outputs, with_outputs
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._runtime.sessions import Session

ALL = TargetPolicy.ALL
RELATIVE = 1e-5  # float32 noise: the halves may be fused otherwise than the whole
BATCH = 4
each_net = pytest.mark.parametrize("name", NETS)
DYNAMIC = [name for name in NETS if name != "fixed-batch"]


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    found = {}
    for name, net in {**NETS, "tied": TIED}.items():
        path = folder / f"{name}.onnx"
        onnx.save(net.model(), path)
        found[name] = read_model(path, ReadOptions(targets=ALL))
    return found


def other_weights(site):
    """Two weights that quantizing might give: coarse steps, and next to nothing."""
    weight = site.layer.weight
    return {4: np.round(weight * 4) / np.float32(4), 2: weight * np.float32(0.01)}


def feed_of(classifier, count=BATCH):
    image = classifier.ends.image
    return {image.name: images(count, tuple(size or 8 for size in image.shape[1:]))}


def close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= RELATIVE * np.abs(expected).max()


def logits(model, ends, feed):
    return Session(with_outputs(model, [ends.logits]).SerializeToString()).run(feed)[ends.logits]


class Halves:
    """Sessions of both halves, and what the images bring to the cut."""

    def __init__(self, classifier, site):
        self.cut = cut(classifier, site, other_weights(site))
        feed = feed_of(classifier)
        self.suffix = Session(self.cut.suffix)
        self.tensors = {**feed, **Session(self.cut.prefix).run(feed)}

    def feeds(self, entering=None):
        taken = (self.cut.output, *self.cut.crossing)
        entering = self.cut.output if entering is None else entering
        return {**{n: self.tensors[n] for n in taken}, self.cut.output: self.tensors[entering]}

    def run(self, feeds):
        (scores,) = self.suffix.run(feeds).values()
        return scores


@each_net
def test_prefix_then_suffix_is_the_whole_model(name, classifiers):
    classifier = classifiers[name]
    feed = feed_of(classifier)
    whole = logits(classifier.proto, classifier.ends, feed)
    exposed = with_outputs(classifier.proto, [classifier.ends.logits])
    close(whole, ReferenceEvaluator(exposed).run(None, feed)[0])
    for site in classifier.sites:
        halves = Halves(classifier, site)
        close(halves.run(halves.feeds()), whole)


@each_net
def test_quantized_outputs_then_suffix_is_the_model_with_that_weight(name, classifiers):
    classifier = classifiers[name]
    feed = feed_of(classifier)
    for site in classifier.sites:
        halves = Halves(classifier, site)
        for bits, weight in other_weights(site).items():
            model = classifier.with_weights({site.layer.name: weight})
            expected = logits(model, classifier.ends, feed)
            close(halves.run(halves.feeds(halves.cut.quantized[bits])), expected)


@each_net
def test_prefix_gives_what_is_promised_and_nothing_else(name, classifiers):
    classifier = classifiers[name]
    image = classifier.ends.image.name
    for site in classifier.sites:
        halves = Halves(classifier, site)
        promised = [halves.cut.output, *halves.cut.quantized.values(), *halves.cut.crossing]
        found = onnx.load_model_from_string(halves.cut.prefix).graph
        assert {v.name for v in found.output} == set(promised) - {image}
        assert [v.name for v in found.input] == [image]
        taken = onnx.load_model_from_string(halves.cut.suffix).graph
        assert [v.name for v in taken.input] == [halves.cut.output, *halves.cut.crossing]
        assert len(taken.output) == 1


@each_net
def test_everything_that_crosses_has_the_batch_first(name, classifiers):
    classifier = classifiers[name]
    for site in classifier.sites:
        halves = Halves(classifier, site)
        for crossing in (halves.cut.output, *halves.cut.crossing):
            tensor = halves.tensors[crossing]
            assert tensor.dtype == np.float32, crossing
            assert len(tensor) == BATCH, crossing


@pytest.mark.parametrize("name", DYNAMIC)
def test_rows_may_be_repeated_and_moved_across_the_cut(name, classifiers):
    classifier = classifiers[name]
    rows = np.array([2, 0, 0, 3, 1, 2, 2, 1, 3])
    for site in classifier.sites:
        halves = Halves(classifier, site)
        feeds = halves.feeds()
        moved = halves.run({name: tensor[rows] for name, tensor in feeds.items()})
        close(moved, halves.run(feeds)[rows])


@each_net
def test_a_channel_of_the_output_is_a_channel_of_the_weight(name, classifiers):
    """Swapping one channel of A is what quantizing one channel does to A."""
    classifier = classifiers[name]
    for site in classifier.sites:
        halves = Halves(classifier, site)
        axis = halves.cut.channel_axis
        plain = np.moveaxis(halves.tensors[halves.cut.output], axis, 0)
        coarse = np.moveaxis(halves.tensors[halves.cut.quantized[2]], axis, 0)
        weight = site.layer.weight.copy()
        weight[1] *= np.float32(0.01)
        twin = Session(cut(classifier, site, {2: weight}).prefix).run(feed_of(classifier))
        found = np.moveaxis(twin[halves.cut.quantized[2]], axis, 0)
        for channel in range(site.layer.channels):
            close(found[channel], (coarse if channel == 1 else plain)[channel])
        assert np.abs(coarse[1] - plain[1]).max() > 100 * RELATIVE * np.abs(plain[1]).max()


@each_net
def test_a_bias_goes_with_a_quantized_weight(name, classifiers):
    classifier = classifiers[name]
    for site in classifier.sites:
        own = correctable_bias(classifier, site)
        if own is None:
            continue
        weights, shift = other_weights(site), np.arange(len(own), dtype=np.float32)
        plain, shifted = (
            cut(classifier, site, weights, biases) for biases in (None, {2: own + shift})
        )
        before, after = (Session(c.prefix).run(feed_of(classifier)) for c in (plain, shifted))
        axis = plain.channel_axis
        for bits, moved in ((2, shift), (4, 0 * shift)):
            one, other = (
                np.moveaxis(tensors[plain.quantized[bits]], axis, -1) for tensors in (before, after)
            )
            close(other, one + moved)


@pytest.mark.parametrize(
    ("name", "layer", "crossing"),
    [
        ("identity", "stem", ()),
        ("identity", "c1", ("a",)),
        ("identity", "c2", ("a",)),
        ("identity", "scores", ()),
        ("projection", "c1", ("short",)),
        ("projection", "short", ("c2",)),
        ("image-crosses", "c1", ("image",)),
        ("image-crosses", "c2", ()),
        ("shape-of-the-image", "stem", ()),
        ("shape-of-the-image", "c1", ("a",)),
        ("dynamic-flatten", "scores", ()),
    ],
)
def test_what_crosses(name, layer, crossing, classifiers):
    """Only the other branch does: nothing before the cut is computed again."""
    classifier = classifiers[name]
    found = cut(classifier, classifier.site(layer), {})
    assert found.crossing == crossing
    assert found.quantized == {}


def test_layer_that_gives_the_logits_has_a_suffix_that_changes_nothing(classifiers):
    classifier = classifiers["logits-of-convolution"]
    halves = Halves(classifier, classifier.site("scores"))
    assert halves.cut.output == classifier.ends.logits
    feeds = halves.feeds()
    assert halves.run(feeds).tobytes() == feeds["scores"].tobytes()


def test_shape_arithmetic_is_repeated_behind_the_cut(classifiers):
    """Else the batch size would be that of the prefix, whatever rows the suffix is given."""
    classifier = classifiers["dynamic-flatten"]
    suffix = onnx.load_model_from_string(cut(classifier, classifier.site("c2"), {}).suffix)
    assert "Shape" in [node.op_type for node in suffix.graph.node]


def test_cutting_changes_neither_the_model_nor_its_weights(classifiers):
    classifier = classifiers["projection"]
    before = classifier.proto.SerializeToString(deterministic=True)
    for site in classifier.sites:
        cut(classifier, site, other_weights(site))
    assert classifier.proto.SerializeToString(deterministic=True) == before


def test_same_cut_twice_is_the_same_bytes(classifiers):
    classifier = classifiers["bottleneck"]
    site = classifier.site("middle")
    one, other = (cut(classifier, site, other_weights(site)) for _ in range(2))
    assert (one.prefix, one.suffix) == (other.prefix, other.suffix)


def test_halves_keep_opset_and_ir_version(classifiers):
    classifier = classifiers["identity"]
    found = cut(classifier, classifier.site("c1"), {})
    for half in map(onnx.load_model_from_string, (found.prefix, found.suffix)):
        assert half.ir_version == classifier.proto.ir_version
        assert [(e.domain, e.version) for e in half.opset_import] == [("", 17)]


def test_layer_whose_weight_is_shared_cannot_be_cut_at(classifiers):
    classifier = classifiers["tied"]
    with pytest.raises(ValueError, match="'t1' shares its weight"):
        cut(classifier, classifier.site("t1"), {})


def test_layer_between_shared_ones_can_be_cut_at(classifiers):
    classifier = classifiers["tied"]
    halves = Halves(classifier, classifier.site("c3"))
    close(
        halves.run(halves.feeds()), logits(classifier.proto, classifier.ends, feed_of(classifier))
    )


def test_other_weights_reach_every_node_and_only_their_layer(classifiers):
    classifier = classifiers["tied"]
    weight = classifier.site("t1").layer.weight * np.float32(2)
    changed = classifier.with_weights({"t1": weight}).graph.initializer
    for before, after in zip(classifier.proto.graph.initializer, changed, strict=True):
        expected = weight if before.name == "tied_w" else numpy_helper.to_array(before)
        assert numpy_helper.to_array(after).tobytes() == expected.tobytes()


def test_exposed_tensors_are_the_only_outputs(classifiers):
    classifier = classifiers["projection"]
    exposed = with_outputs(classifier.proto, ["short", "c2"])
    found = Session(exposed.SerializeToString()).run(feed_of(classifier))
    assert list(found) == ["short", "c2"]
    assert [value.name for value in classifier.proto.graph.output] == ["scores"]


def test_only_what_the_outputs_need_is_left():
    """A graph that computes a weight from constants stands alone, without the image."""
    body = "double = Add (w_a, w_a)\n c = Conv (image, double)\n scores = Add (c, w_b)"
    net = NETS["identity"]
    model = type(net)(body, {"w_a": (5, 3, 8, 8), "w_b": (1,)}, scores="float[N,5,1,1] scores")
    proto = model.model()
    part = only_outputs(proto, ["double"])
    assert [node.op_type for node in part.graph.node] == ["Add"]
    assert [tensor.name for tensor in part.graph.initializer] == ["w_a"]
    assert not part.graph.input
    w_a = numpy_helper.to_array(proto.graph.initializer[0])
    for found in (
        Session(part.SerializeToString(), optimize=False).run({})["double"],
        ReferenceEvaluator(part).run(None, {})[0],
    ):
        assert np.array_equal(found, w_a + w_a)


@pytest.mark.shared
@pytest.mark.parametrize("place", [0, 9, -1], ids=["first", "middle", "last"])
def test_cutting_a_real_network(place, shared):
    classifier = read_model(shared / "models/resnet20_cifar10.onnx", ReadOptions(targets="hidden"))
    image = classifier.ends.image
    feed = {image.name: images(BATCH, tuple(size or 32 for size in image.shape[1:]))}
    site = classifier.sites[place]
    found = cut(classifier, site, {})
    tensors = {**feed, **Session(found.prefix).run(feed)}
    feeds = {name: tensors[name] for name in (found.output, *found.crossing)}
    (scores,) = Session(found.suffix).run(feeds).values()
    close(scores, logits(classifier.proto, classifier.ends, feed))
