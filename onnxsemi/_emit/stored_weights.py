"""Reading back what an emitted file stores, from the file alone.

A weight is traced from its node back through what rearranges it to its tails, and through those to
the codes of each group of channels. Every byte of the file belongs to one of:

*codes* of a group, in exactly their bits; *scales*, zero points included; *float32*, what is not
quantized; *structure*, all the rest: nodes, names, shapes, orders, metadata. Structure that only
one group needs is counted there, what the groups of one layer share at the layer, what layers
share (unpacking, the model's own graph) at the file.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

import msgspec
import onnx
from onnx import TensorProto

from onnxsemi._emit.coded_sizes import coded_sizes
from onnxsemi._emit.divided_layers import KEY, read_divided
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.stored_codes import (
    REARRANGING,
    codes_in,
    producer,
    stored_bytes,
    tail_of,
    zeros_shape,
)
from onnxsemi._errors import ModelError
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.roles import WEIGHTED
from onnxsemi._plan.bitwidth import FLOAT_BITS


@dataclass(frozen=True)
class StoredGroup:
    """Channels of one layer that a file stores at one bitwidth.

    Attributes:
        bits: 0 to 8, or 32.
        channels: Number of channels.
        weights: Number of weights.
        code_bytes: Bytes of the codes, or of the float32 weights; a begun byte counts.
        scale_bytes: Bytes of scales and zero points.
        structure_bytes: Bytes of nodes, names and shapes that only this group needs.
    """

    bits: int
    channels: int
    weights: int
    code_bytes: int
    scale_bytes: int
    structure_bytes: int

    @property
    def taken_bits(self) -> float:
        """Bits that a weight takes: fewer than its code has where codes are entropy-coded."""
        return 8 * self.code_bytes / self.weights


@dataclass(frozen=True)
class InspectedLayer:
    """A weighted layer as ``inspect`` shows it.

    Attributes:
        name: Node name.
        shape: Shape of the weight as the operator stores it; empty if the file does not say.
        status: "target", "quantized", or why it is no target.
        groups: What the file stores, widest first.
        structure_bytes: Bytes of nodes, names and orders that the groups share.
        levels: Of codes that are entropy-coded and centred on zero: from the lowest that is used to
            the highest, odd; None of others.
        coded_bits: What a weight takes by their frequencies; None likewise.
    """

    name: str
    shape: tuple[int, ...]
    status: str
    groups: tuple[StoredGroup, ...]
    structure_bytes: int = 0
    levels: int | None = None
    coded_bits: float | None = None


@dataclass(frozen=True)
class Stored:
    """What an emitted file holds.

    Attributes:
        layers: Weighted layers in graph order.
        float_bytes: Bytes of float32 values outside quantized layers.
        shared_bytes: Bytes of structure that layers share.
    """

    layers: tuple[InspectedLayer, ...]
    float_bytes: int
    shared_bytes: int

    @property
    def payload_bytes(self) -> int:
        """Bytes that the values take: codes, scales, and what stays float32."""
        groups = (group for layer in self.layers for group in layer.groups)
        return self.float_bytes + sum(g.code_bytes + g.scale_bytes for g in groups)


_ROOT_AND_SCALE = 2
PLAN = "onnxsemi.plan_sha256"
WEIGHTS, CONTENT = "onnxsemi.weights_sha256", "onnxsemi.sha256"
FOR_TOOLS = ("onnxsemi.sizes", KEY, WEIGHTS, CONTENT)
"""Properties that are no reading: what they say is shown in other words."""


def emitted_properties(model: onnx.ModelProto) -> dict[str, str]:
    """What onnxsemi wrote into a file about it; empty if another tool made the file."""
    return {p.key: p.value for p in model.metadata_props if p.key.startswith("onnxsemi.")}


@dataclass(frozen=True)
class StatedSizes:
    """What a file says of the model that it was made from, and of its plan.

    Attributes:
        source_bytes: Bytes of the float file, external data included.
        float_bytes: Bytes of all float32 values of the float model.
        target_weights: Number of target weights.
        target_bits: Bits that they take in the plan.
        payload_bytes: Bytes of the values in this file: codes, scales, what stays float32.
    """

    source_bytes: int
    float_bytes: int
    target_weights: int
    target_bits: int
    payload_bytes: int

    def to_json(self) -> str:
        """As it stands in the file."""
        return msgspec.json.encode(self).decode()


def stated_sizes(model: onnx.ModelProto) -> StatedSizes:
    """Read back what the file says.

    Raises:
        ModelError: If it says nothing, or something else.
    """
    try:
        return msgspec.json.decode(emitted_properties(model)["onnxsemi.sizes"], type=StatedSizes)
    except (KeyError, msgspec.DecodeError, RecursionError):
        raise ModelError(
            "the metadata of the file do not hold 'onnxsemi.sizes': they were changed, or an older "
            "version wrote the file: write it anew with 'apply'"
        ) from None


def read_stored(model: onnx.ModelProto) -> Stored:
    """Weighted layers with the groups of channels that the file stores, and where its bytes are.

    Raises:
        ModelError: If the file was changed since it was written.
    """
    index = GraphIndex.of(model.graph)
    nodes = layer_nodes(model, index)
    coded = coded_sizes(model, index)
    found = {name: _pieces(index, members) for name, members in nodes.items()}
    traced = {n: ps for n, ps in found.items() if any(p.bits != FLOAT_BITS for p in ps)}
    pieces = [piece for members in traced.values() for piece in members]
    held = {name for piece in pieces for name in piece.held} | set(coded.streams)
    weights = {name: [node.input[1] for node in nodes[name]] for name in traced}
    made_of = {item for names in weights.values() for item in _reach(index, names)}
    of_layer = _structure(index, weights, held)
    of_group = _structure(index, {p.tensor: [p.tensor] for p in pieces}, held)
    layers = []
    for name, members in found.items():
        if name not in traced:
            shape = tuple(index.constants[members[0].tensor].dims)
            layers.append(InspectedLayer(name, shape, "float32", ()))
            continue
        groups = tuple(
            p.stored(coded.of_output.get(p.stream, p.code_bytes), of_group[p.tensor])
            for p in members
        )
        between = of_layer[name] - sum(group.structure_bytes for group in groups)
        layers.append(InspectedLayer(name, (), "quantized", groups, between))
    float_bytes = sum(
        4 * prod(tensor.dims)
        for name, tensor in index.constants.items()
        if tensor.data_type == TensorProto.FLOAT and name not in held | made_of
    )
    counted = float_bytes + sum(
        layer.structure_bytes
        + sum(g.code_bytes + g.scale_bytes + g.structure_bytes for g in layer.groups)
        for layer in layers
    )
    return Stored(tuple(layers), float_bytes, model.ByteSize() - counted)


@dataclass(frozen=True)
class GroupTensor:
    """What gives the codes of a group.

    Attributes:
        tensor: Name of a tensor of them, in any order.
        bits: Bitwidth, 0 to 8.
        weights: Their number.
    """

    tensor: str
    bits: int
    weights: int


def centred_groups(model: onnx.ModelProto, index: GraphIndex) -> dict[str, list[GroupTensor]]:
    """Groups of layers with coded ones, all of whose codes need no zero points.

    Raises:
        ModelError: If the file was changed since it was written.
    """
    found = {}
    for name, nodes in layer_nodes(model, index).items():
        pieces = _pieces(index, nodes)
        if any(p.stream for p in pieces) and all(p.centred or p.bits == 0 for p in pieces):
            found[name] = [GroupTensor(p.codes, p.bits, p.weights) for p in pieces]
    return found


@dataclass(frozen=True)
class _Piece:
    """A group as it was traced."""

    bits: int
    channels: int
    weights: int
    code_bytes: int
    scale_bytes: int
    tensor: str
    held: tuple[str, ...]
    stream: str = ""
    codes: str = ""

    @property
    def centred(self) -> bool:
        """Whether nothing is subtracted from its codes."""
        return self.bits != FLOAT_BITS and len(self.held) == _ROOT_AND_SCALE

    def stored(self, code_bytes: int, structure_bytes: int) -> StoredGroup:
        """With all sizes known."""
        sizes = (code_bytes, self.scale_bytes, structure_bytes)
        return StoredGroup(self.bits, self.channels, self.weights, *sizes)


def layer_nodes(model: onnx.ModelProto, index: GraphIndex) -> dict[str, list[onnx.NodeProto]]:
    """Weighted layers with their nodes; a shared weight once, semilayers of a layer together.

    A product of two tensors that both depend on the image has no weight.

    Raises:
        ModelError: If a file of profile nodes does not say which nodes belong together.
    """
    images = {value.name for value in model.graph.input} - index.constants.keys()
    varying = {n for i in index.downstream(images) for n in index.graph.node[i].output} | images
    apart = emitted_properties(model).get("onnxsemi.profile") == Profile.NODES
    divided = read_divided(model) if apart else {}
    whole = {
        name: layer
        for layer, parts in divided.items()
        for names in parts.values()
        for name in names
    }
    layers: dict[str, list[onnx.NodeProto]] = {}
    seen: set[str] = set()
    for _, node in index.nodes(*WEIGHTED):
        if node.input[1] in varying:
            continue
        weight = _shared(index, node.input[1])
        if weight not in seen:
            seen.add(weight)
            layers.setdefault(whole.get(node.name, node.name), []).append(node)
    return layers


def _shared(index: GraphIndex, weight: str) -> str:
    """What nodes with the same weight share: the weight, or the codes that each has a tail for.

    All but one have the codes through a Transpose that leaves the order of the axes.
    """
    node = producer(index, weight)
    if node is None or node.op_type in (*REARRANGING, "Concat"):
        return weight
    try:
        codes, _ = tail_of(index, node)
    except (KeyError, ValueError):
        return weight  # changed since it was written, which is said where it is read
    made = producer(index, codes)
    if made is None or made.op_type != "Transpose":
        return codes
    (order,) = (list(entry.ints) for entry in made.attribute if entry.name == "perm")
    return made.input[0] if order == sorted(order) else codes


def _pieces(index: GraphIndex, nodes: Sequence[onnx.NodeProto]) -> list[_Piece]:
    """Groups of a layer, widest first."""
    pieces: list[_Piece] = []
    for node in nodes:
        try:
            pieces += _weight(index, node.input[1])
        except (KeyError, ValueError, IndexError, ZeroDivisionError):
            raise ModelError(
                f"the weight of {node.name!r} was changed since onnxsemi wrote it: not readable"
            ) from None
    return sorted(pieces, key=lambda piece: -piece.bits)


def _weight(index: GraphIndex, name: str) -> Iterator[_Piece]:
    """The groups that a float32 tensor is put together from."""
    node = producer(index, name)
    if node is None:
        tensor = index.constants[name]
        count = prod(tensor.dims)
        yield _Piece(FLOAT_BITS, tensor.dims[0], count, 4 * count, 0, name, (name,))
    elif node.op_type == "ConstantOfShape":
        shape = zeros_shape(index, node)
        yield _Piece(0, shape[0], prod(shape), 0, 0, name, ())
    elif node.op_type == "Concat":
        for part in node.input:
            yield from _weight(index, part)
    elif node.op_type in REARRANGING:
        yield from _weight(index, node.input[0])
    else:
        codes, scales = tail_of(index, node)
        parts = list(codes_in(index, codes))
        channels = sum(part.channels for part in parts)
        for part in parts:
            size = sum(stored_bytes(index, scale) for scale in scales) * part.channels // channels
            alone = part.root == part.tensor  # of its own type, with room to spare or none
            code_bytes = (
                stored_bytes(index, part.root) if alone else ceil(part.count * part.bits / 8)
            )
            whole = name if len(parts) == 1 else part.tensor
            held = (part.root, *scales)
            counts = (part.bits, part.channels, part.count)
            yield _Piece(*counts, code_bytes, size, whole, held, part.stream, part.tensor)


def _structure(
    index: GraphIndex, tensors: Mapping[str, Sequence[str]], held: Collection[str]
) -> dict[str, int]:
    """Bytes of what is there for one key's tensors only, but for the values that are held."""
    reach = {key: _reach(index, names) for key, names in tensors.items()}
    uses = Counter(item for items in reach.values() for item in items)
    return {
        key: sum(_item_bytes(index, item, held) for item in items if uses[item] == 1)
        for key, items in reach.items()
    }


def _reach(index: GraphIndex, tensors: Sequence[str]) -> set[int | str]:
    """Positions of nodes and names of constants that tensors are computed from."""
    nodes = index.upstream(tensors)
    read = {name for position in nodes for name in index.graph.node[position].input}
    return {*nodes, *((read | set(tensors)) & index.constants.keys())}


def _item_bytes(index: GraphIndex, item: int | str, held: Collection[str]) -> int:
    """Bytes of a node, or of a constant, with the tag and the length before it."""
    message = index.graph.node[item] if isinstance(item, int) else index.constants[item]
    size = int(message.ByteSize())
    values = stored_bytes(index, item) if isinstance(item, str) and item in held else 0
    return 1 + max(1, -(-size.bit_length() // 7)) + size - values
