"""What part a convolution plays in the network, found from the graph alone.

The paper's targets are the *hidden* convolutions: not the stem, not the projection shortcuts, not
the classifier.

*stem*: no other weighted node lies between the image and it.
*shortcut*: a 1x1 convolution that is alone on its side of a residual Add or Sum, while the other
side has more weighted nodes, or one with a larger kernel.
*classifier*: no other weighted node lies between it and the logits.
"""

from enum import StrEnum
from itertools import permutations

import onnx

from onnxsemi._model.index import GraphIndex

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Role(StrEnum):
    """Part of a layer in the network."""

    HIDDEN = "hidden"
    """A convolution inside the network."""
    STEM = "stem"
    """Takes the image."""
    SHORTCUT = "projection shortcut"
    """Fits the shape of a residual branch."""
    CLASSIFIER = "classifier"
    """Gives the logits."""


def roles(graph: onnx.GraphProto, logits: str) -> dict[int, Role]:
    """Role of every node with a stored weight that the logits depend on, by node position."""
    index = GraphIndex.of(graph)
    used = index.upstream([logits])
    stored = (i for i, node in index.nodes(*WEIGHTED) if node.input[1] in index.constants)
    weighted = used.intersection(stored)
    shortcuts = _projection_shortcuts(index, weighted)
    found: dict[int, Role] = {}
    for position in sorted(weighted):
        node = graph.node[position]
        later = index.downstream(node.output) & weighted
        if position in shortcuts:
            found[position] = Role.SHORTCUT
        elif not later:
            found[position] = Role.CLASSIFIER
        elif not index.upstream(node.input) & weighted:
            found[position] = Role.STEM
        else:
            found[position] = Role.HIDDEN
    return found


def _projection_shortcuts(index: GraphIndex, weighted: set[int]) -> set[int]:
    shortcuts: set[int] = set()
    for _, node in index.nodes("Add", "Sum"):
        sides = [index.upstream([name]) & weighted for name in node.input]
        for one, another in permutations(sides, 2):
            side, other = one - another, another - one
            if len(side) == 1 and _is_bypass(index, min(side), other):
                shortcuts |= side
    return shortcuts


def _is_bypass(index: GraphIndex, position: int, other: set[int]) -> bool:
    main = [index.graph.node[other_position] for other_position in other]
    wider = any(not _is_pointwise(index, node) for node in main)
    return _is_pointwise(index, index.graph.node[position]) and (len(main) > 1 or wider)


def _is_pointwise(index: GraphIndex, node: onnx.NodeProto) -> bool:
    weight = index.constants.get(node.input[1])
    return node.op_type == "Conv" and weight is not None and set(weight.dims[2:]) == {1}
