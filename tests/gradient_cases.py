"""What the tests of the backward graph share: cases, values, joined graphs, differences.

Values of inputs are the odd multiples of 1/32, each once, in random order: they are exact in
float32, differ by 1/16 from each other, and every kink of an operator (0, Clip's bounds, 2.5, 3, a
change of the largest cell) is at least 1/32 away, far more than the step of the differences. Those
of a second input are 1/64 beside them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
from jacobian_oracle import jacobian
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnxsemi._gradient.backward import Backward, Cotangents, backward
from onnxsemi._runtime.sessions import Session

Array = NDArray[np.float64]
Shape = tuple[int, ...]

IMAGES = 2
COTANGENTS = "cotangents"
STEP = 2.0**-14  # of the differences; x +- STEP is exact
OPERATIONS = 2.0**10  # more than the operations that round on the way to any value
ROUNDINGS = 8  # of the factors of a summand: a forward value (4), its derivative (3), the product
EPS32, EPS64 = (float(np.finfo(t).eps) for t in (np.float32, np.float64))


@dataclass(frozen=True, eq=False)
class Case:
    """One operator; ``y`` is its output, ``x`` and ``z`` vary, other inputs are constants.

    Attributes:
        name: Its id.
        call: ONNX text of the node without its output.
        x: Shape of one row of ``x``.
        z: Shape of one row of ``z``, if there is one.
        weights: Constant -> shape, normal values; ``var`` is positive.
        given: Constant -> values, int64 or float.
        third: Bound on the third derivative of an output along one input.
        not_reference: Why the reference evaluator cannot serve; ONNX Runtime then does, in float32.
        step32: Step of the differences in float32, where there are no third derivatives.
        ties: Values are small integers instead; there is no derivative to take differences for.
        opset: Of the model.
        above: Added to all values of the inputs.
    """

    name: str
    call: str
    x: Shape
    z: Shape | None = None
    weights: Mapping[str, Shape] = field(default_factory=dict)
    given: Mapping[str, object] = field(default_factory=dict)
    third: float = 0.0
    not_reference: str = ""
    step32: float = 1.0
    ties: bool = False
    opset: int = 18
    above: float = 0.0

    @property
    def rows(self) -> dict[str, Shape]:
        return {"x": self.x} | ({} if self.z is None else {"z": self.z})

    def constants(self) -> dict[str, NDArray[np.generic]]:
        """Float values are exact in float32."""
        drawn = draw_weights(self.weights)
        return drawn | {name: np.array(values) for name, values in self.given.items()}

    def feeds(self) -> dict[str, Array]:
        """The same values whatever the float type."""
        if self.ties:
            generator = np.random.default_rng(3)
            return {n: generator.integers(0, 3, (IMAGES, *r)) * 1.0 for n, r in self.rows.items()}
        named = enumerate(self.rows.items())
        return {n: distinct((IMAGES, *r), seed) + self.above + seed / 64 for seed, (n, r) in named}

    def model(self, dtype=np.float32) -> onnx.ModelProto:
        return text_model(f"y = {self.call}", self.rows, self.constants(), dtype, self.opset)


def ids(case: Case) -> str:
    return case.name


def draw_weights(shapes: Mapping[str, Shape], seed: int = 7) -> dict[str, Array]:
    """Normal values, rounded to float32; those of ``var`` are positive."""
    generator = np.random.default_rng(seed)
    drawn = {n: generator.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    drawn = {name: np.asarray(values, np.float64) for name, values in drawn.items()}
    return {n: 0.5 + np.abs(v) if n.endswith("var") else v for n, v in drawn.items()}


def distinct(shape: Shape, seed: int = 0) -> Array:
    """Odd multiples of 1/32, each once."""
    size = math.prod(shape)
    order = np.random.default_rng(seed).permutation(size)
    return ((2 * order - size // 2 * 2 + 1) / 32).reshape(shape)


def text_model(body, rows, constants, dtype=np.float32, opset=18, outputs=("y",)):
    """A model of float inputs [N, *row] and of constants; outputs have the types that they get."""
    element = "double" if dtype == np.float64 else "float"
    inputs = ", ".join(f"{element}[{','.join(map(str, ('N', *r)))}] {n}" for n, r in rows.items())
    declared = ", ".join(f"{element}[] {name}" for name in outputs)
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = parser.parse_model(f"{header} g ({inputs}) => ({declared}) {{ {body} }}")
    for name, values in constants.items():
        typed = values.astype(dtype) if values.dtype.kind == "f" else values
        model.graph.initializer.append(numpy_helper.from_array(typed, name))
    return model


def runtime(model: onnx.ModelProto):
    """ONNX Runtime: graph optimisation on, one thread."""
    return Session(model.SerializeToString()).run


def reference(model: onnx.ModelProto):
    """The reference evaluator."""
    evaluator = ReferenceEvaluator(model)
    names = [output.name for output in model.graph.output]
    return lambda feeds: dict(zip(names, evaluator.run(None, feeds), strict=True))


def in_type(feeds, dtype):
    return {name: values.astype(dtype) for name, values in feeds.items()}


def tensor_shapes(model: onnx.ModelProto, rows: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of the float tensors, -1 for the axis that follows the batch, by running a model."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    names = [name for node in model.graph.node for name in node.output if name]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    run = runtime(exposed)
    runs = [
        run({name: distinct((count, *row)).astype(np.float32) for name, row in rows.items()})
        for count in (2, 3)
    ]
    found = {name: (-1, *row) for name, row in rows.items()}
    for name in names:
        two, three = (r[name] for r in runs)
        if two.dtype == np.float32:
            pairs = zip(two.shape, three.shape, strict=True)
            found[name] = tuple(a if a == b else -1 for a, b in pairs)
    return found


def row_shapes(model: onnx.ModelProto, rows: Mapping[str, Shape]) -> dict[str, Shape]:
    """Rows of the float tensors whose first axis follows the batch."""
    shapes = tensor_shapes(model, rows)
    return {n: s[1:] for n, s in shapes.items() if s[:1] == (-1,) and s.count(-1) == 1}


@dataclass(frozen=True, eq=False)
class Joined:
    """A forward graph with its backward part.

    Attributes:
        model: Both; gives the gradients that were found.
        reverse: The backward part.
    """

    model: onnx.ModelProto
    reverse: Backward


def gradient_of(name: str) -> str:
    """Output of a joined model."""
    return f"gradient/{name}"


def joined(
    model, shapes, wanted, *, cotangents=1, dtype=np.float32, tensor="y", others=None
) -> Joined:
    """Append the backward part of ``tensor`` to a model, whose outputs are then the gradients.

    ``shapes`` are rows, ``others`` the shapes of tensors whose first axis is not the batch.
    """
    whole = {**(others or {}), **{name: (-1, *row) for name, row in shapes.items()}}
    reverse = backward(
        model.graph,
        whole,
        Cotangents(tensor=tensor, name=COTANGENTS, count=cotangents),
        wanted,
        dtype,
    )
    both = onnx.ModelProto()
    both.CopyFrom(model)
    both.graph.node.extend(reverse.nodes)
    both.graph.initializer.extend(reverse.initializers)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    both.graph.input.append(
        helper.make_tensor_value_info(COTANGENTS, element, ["R", *shapes[tensor]])
    )
    del both.graph.output[:]
    for name, gradient in reverse.gradients.items():
        output, axes = gradient_of(name), len(shapes[name])
        order = [1, 0, *range(2, axes + 2)]  # [S, N, *row] -> [N * S, *row]
        turned = helper.make_node("Transpose", [gradient], [f"{output}/turned"], perm=order)
        shape = numpy_helper.from_array(np.array([-1, *shapes[name]]), f"{output}/shape")
        both.graph.initializer.append(shape)
        grouped = helper.make_node("Reshape", [f"{output}/turned", f"{output}/shape"], [output])
        both.graph.node.extend([turned, grouped])
        both.graph.output.append(
            helper.make_tensor_value_info(output, element, ["Q", *shapes[name]])
        )
    return Joined(both, reverse)


def numeric_jacobian(run, feeds, wanted, step, places=None) -> Array:
    """Central differences, [N, outputs, inputs], from one run on all changed rows.

    ``places``: the inputs to take, flat; all by default.
    """
    changed = feeds[wanted]
    count, every = len(changed), changed[0].size
    one = np.eye(every)[slice(None) if places is None else places]
    moves = np.concatenate([one, -one]) * step
    batch = {name: np.repeat(values, len(moves), axis=0) for name, values in feeds.items()}
    batch[wanted] = batch[wanted] + np.tile(moves, (count, 1)).reshape(-1, *changed.shape[1:])
    values = run({name: v.astype(changed.dtype) for name, v in batch.items()})["y"]
    there, back = np.moveaxis(values.astype(np.float64).reshape(count, 2, len(one), -1), 1, 0)
    return ((there - back) / (2 * step)).transpose(0, 2, 1)


def draw_cotangents(cotangents: int, row: Shape, images: int = IMAGES) -> Array:
    """[N * S, *row], exact in float32."""
    drawn = np.random.default_rng(cotangents).normal(size=(images * cotangents, *row))
    return drawn.astype(np.float32).astype(np.float64)


def pulled(jacobians: Array, seed: Array) -> Array:
    """J^T seed, [N, S, inputs], of [N, outputs, inputs] and [N * S, *row]."""
    grouped = seed.reshape(len(jacobians), -1, jacobians.shape[1])
    return np.einsum("noi,nso->nsi", jacobians, grouped)


@cache
def _prepared(case: Case):
    """Row shapes and, for every varying input, the oracle's Jacobians stacked over images."""
    model, feeds = case.model(), case.feeds()
    shapes = row_shapes(model, case.rows)
    found = {}
    for wanted in case.rows:
        each = [
            jacobian(
                model.graph.node[0],
                case.constants() | {name: values[n : n + 1] for name, values in feeds.items()},
                wanted,
                (1, *shapes["y"]),
            )
            for n in range(IMAGES)
        ]
        values, sizes = (np.stack([getattr(j, part) for j in each]) for part in ("values", "sizes"))
        found[wanted] = values, sizes, max(j.count for j in each)
    return shapes, found


@cache
def _numeric(case: Case):
    """Differences for every varying input, and the largest forward value."""
    dtype = np.float32 if case.not_reference else np.float64
    run = runtime(case.model()) if case.not_reference else reference(case.model(np.float64))
    feeds = in_type(case.feeds(), dtype)
    largest = max(np.abs(v).max() for v in (*feeds.values(), run(feeds)["y"]))
    step = case.step32 if case.not_reference else STEP
    return {n: numeric_jacobian(run, feeds, n, step) for n in case.rows}, float(largest)


def backward_run(case: Case, cotangents: int, seed: Array, dtype, run) -> dict[str, Array]:
    """Gradient of every varying input, [N, S, inputs]."""
    shapes, _ = _prepared(case)
    both = joined(case.model(dtype), shapes, case.rows, cotangents=cotangents, dtype=dtype)
    assert not both.reverse.missing
    onnx.checker.check_model(both.model, full_check=True)
    values = run(both.model)(in_type(case.feeds() | {COTANGENTS: seed}, dtype))
    named = {name: values[gradient_of(name)] for name in case.rows}
    for name, row in case.rows.items():
        assert named[name].shape == (IMAGES * cotangents, *row)
        assert named[name].dtype == dtype
    return {n: v.reshape(IMAGES, cotangents, -1).astype(np.float64) for n, v in named.items()}


def check_differences(case: Case, cotangents: int) -> None:
    """The backward graph in float64 against central differences with the step h.

    They are off by at most h^2 / 6 times the third derivative, and by the rounding of the two
    forward values, OPERATIONS * eps * the largest value each, over 2 h. In float32 the step must be
    large: only operators without a third derivative are checked so.
    """
    shapes, _ = _prepared(case)
    seed = draw_cotangents(cotangents, shapes["y"])
    numeric, largest = _numeric(case)
    dtype, run, eps, step = np.float64, reference, EPS64, STEP
    if case.not_reference:
        assert case.third == 0
        dtype, run, eps, step = np.float32, runtime, EPS32, case.step32
    found = backward_run(case, cotangents, seed, dtype, run)
    total = np.abs(seed).reshape(IMAGES, cotangents, -1).sum(axis=2)
    operations = 2.0**6 if case.not_reference else OPERATIONS
    off = case.third * step**2 / 6 + operations * eps * max(largest, 1) / step
    for name, gradient in found.items():
        error = np.abs(gradient - pulled(numeric[name], seed)).max(axis=2)
        assert (error <= off * total).all(), (name, error.max(), off)


def check_oracle(case: Case, cotangents: int) -> None:
    """The backward graph in ONNX Runtime, float32, against J^T seed.

    A sum of n products is off by less than n eps times the sum of their sizes (Higham, Accuracy and
    Stability, 3.1); the factors of each have rounded at most ROUNDINGS times before.
    """
    shapes, oracle = _prepared(case)
    seed = draw_cotangents(cotangents, shapes["y"])
    found = backward_run(case, cotangents, seed, np.float32, runtime)
    for name, gradient in found.items():
        values, sizes, count = oracle[name]
        off = (count + ROUNDINGS) * EPS32 * pulled(sizes, np.abs(seed))
        error = np.abs(gradient - pulled(values, seed))
        assert (error <= off).all(), (name, error.max(), off.max())


def parametrized(cases: Sequence[Case]) -> Sequence[Case]:
    """The cases, each id once."""
    assert len({case.name for case in cases}) == len(cases)
    return cases
