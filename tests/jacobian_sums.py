"""Jacobians of operators that sum, normalize or move, from their definitions."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from jacobian_call import Array, Call, Place, Terms, met

# Movement: what the operator does to the places themselves


def _moved(operator: Callable[[Call, Array], Array]) -> Callable[[Call], Terms]:
    def terms(call: Call) -> Terms:
        places = np.arange(call.x.size).reshape(call.x.shape)
        for o, flat in np.ndenumerate(operator(call, places)):
            yield o, tuple(int(p) for p in np.unravel_index(flat, call.x.shape)), 1.0

    return terms


def _gathered(call: Call, places: Array) -> Array:
    return np.take(places, call.inputs[1], axis=call.attribute("axis", 0))


def _resized(call: Call, places: Array) -> Array:
    for axis, (before, after) in enumerate(zip(call.x.shape, call.output, strict=True)):
        places = np.repeat(places, after // before, axis=axis)
    return places


def _deep(call: Call, places: Array) -> Array:
    n, c, h, w = places.shape
    b = call.attributes["blocksize"]
    if call.attribute("mode", b"DCR") == b"DCR":
        blocks = places.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = places.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // b**2, h * b, w * b)


def _flat(call: Call, places: Array) -> Array:
    n, c, h, w = places.shape
    b = call.attributes["blocksize"]
    blocks = places.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * b * b, h // b, w // b)


# Sums


def _groups(call: Call, axes: set[int]) -> Iterator[list[Place]]:
    """Places that are reduced together."""
    ranges = [range(n) if a not in axes else [slice(None)] for a, n in enumerate(call.x.shape)]
    for fixed in np.ndindex(*(len(r) for r in ranges)):
        inner = [range(n) if a in axes else [fixed[a]] for a, n in enumerate(call.x.shape)]
        sizes = np.ndindex(*(len(r) for r in inner))
        yield [tuple(r[k] for r, k in zip(inner, at, strict=True)) for at in sizes]


def _reduce(factors: Callable[[Array], list[Array]]) -> Callable[[Call], Terms]:
    """``factors``: values that are reduced together -> summands of their derivatives."""

    def terms(call: Call) -> Terms:
        without = [] if call.attribute("noop_with_empty_axes", 0) else range(call.x.ndim)
        axes = {axis % call.x.ndim for axis in call.integers(1, without)}
        kept = call.attribute("keepdims", 1)
        for group in _groups(call, axes):
            summands = factors(np.array([call.x[i] for i in group]))
            for k, i in enumerate(group):
                marked = tuple(
                    0 if a in axes else p for a, p in enumerate(i) if kept or a not in axes
                )
                for summand in summands:
                    yield marked, i, float(summand[k])

    return terms


def global_max_pool(call: Call) -> Terms:
    for group in _groups(call, set(range(2, call.x.ndim))):
        i = max(group, key=lambda place: call.x[place])
        yield (*i[:2], *[0] * (len(i) - 2)), i, 1.0


def einsum(call: Call) -> Terms:
    text = call.attributes["equation"].decode().replace(" ", "")
    before, _, output = text.partition("->")
    terms = before.split(",")
    sizes = {
        letter: size
        for term, operand in zip(terms, call.inputs, strict=True)
        for letter, size in zip(term, operand.shape, strict=True)
    }
    if not output:
        output = "".join(sorted(letter for letter in sizes if before.count(letter) == 1))
    for at in np.ndindex(*sizes.values()):
        place = dict(zip(sizes, at, strict=True))
        where = [tuple(place[c] for c in term) for term in (*terms, output)]
        others = [
            v[w]
            for i, (v, w) in enumerate(zip(call.inputs, where, strict=False))
            if i != call.place
        ]
        yield where[-1], where[call.place], float(math.prod(others))


# Normalization: dy[o] / dx[i] = scale[o] * r * (1[o == i] - 1 / n - xhat[o] xhat[i] / n).
# xhat is a difference: its parts are summands of their own, so that the sizes bound the rounding.


def _normalized(call: Call, axes: set[int], scale: Callable[[Place], float], *, mean=True) -> Terms:
    epsilon = call.attribute("epsilon", 1e-5)
    for group in _groups(call, axes):
        x, n = np.array([call.x[i] for i in group]), len(group)
        m = x.mean() if mean else 0.0
        r = 1 / math.sqrt(((x - m) ** 2).mean() + epsilon)
        for k, o in enumerate(group):
            yield o, o, scale(o) * r
            for j, i in enumerate(group):
                if mean:
                    yield o, i, -scale(o) * r / n
                for a in (x[k], -m) if mean else (x[k],):
                    for b in (x[j], -m) if mean else (x[j],):
                        yield o, i, -scale(o) * r**3 * a * b / n


def layer_normalization(call: Call) -> Terms:
    axes = set(range(call.attribute("axis", -1) % call.x.ndim, call.x.ndim))
    weight = call.inputs[1]
    return _normalized(call, axes, lambda o: float(weight[met(o, weight.shape)]))


def rms_normalization(call: Call) -> Terms:
    axes = set(range(call.attribute("axis", -1) % call.x.ndim, call.x.ndim))
    weight = call.inputs[1]
    return _normalized(call, axes, lambda o: float(weight[met(o, weight.shape)]), mean=False)


def instance_normalization(call: Call) -> Terms:
    weight = call.inputs[1]
    return _normalized(call, set(range(2, call.x.ndim)), lambda o: float(weight[o[1]]))


def group_normalization(call: Call) -> Terms:
    """On [1, G, C / G, ...], places then put back."""
    weight, count = call.inputs[1], call.attributes["num_groups"]
    per = call.x.shape[1] // count
    split = (1, count, per, *call.x.shape[2:])
    inner = Call(call.attributes, [call.x.reshape(split)], 0, split)
    each = len(weight) // count  # a scale a group, or a channel

    def scale(o: Place) -> float:
        return float(weight[o[1]] if each == 1 else weight[o[1] * per + o[2]])

    for o, i, term in _normalized(inner, set(range(2, len(split))), scale):
        yield *[(0, p[1] * per + p[2], *p[3:]) for p in (o, i)], term


def lp_normalization(call: Call) -> Terms:
    axis, p = call.attribute("axis", -1) % call.x.ndim, call.attribute("p", 2)
    for group in _groups(call, {axis}):
        x = np.array([call.x[i] for i in group])
        norm = np.abs(x).sum() if p == 1 else math.sqrt((x**2).sum())
        towards = np.sign(x) if p == 1 else x / norm
        for k, o in enumerate(group):
            yield o, o, 1 / norm
            for j, i in enumerate(group):
                yield o, i, -x[k] * towards[j] / norm**2


def lrn(call: Call) -> Terms:
    x, size = call.x, call.attributes["size"]
    alpha, beta = call.attribute("alpha", 1e-4), call.attribute("beta", 0.75)
    for o in np.ndindex(*x.shape):
        low, high = max(0, o[1] - (size - 1) // 2), min(x.shape[1] - 1, o[1] + size // 2)
        near = [(o[0], c, *o[2:]) for c in range(low, high + 1)]
        d = call.attribute("bias", 1.0) + alpha / size * sum(x[i] ** 2 for i in near)
        yield o, o, d**-beta
        for i in near:
            yield o, i, -2 * alpha * beta / size * x[o] * x[i] * d ** (-beta - 1)


def log_softmax(call: Call) -> Terms:
    axis = call.attribute("axis", -1) % call.x.ndim
    e = np.exp(call.x)
    y = e / e.sum(axis=axis, keepdims=True)
    for o in np.ndindex(*call.output):
        yield o, o, 1.0
        for k in range(call.x.shape[axis]):
            i = (*o[:axis], k, *o[axis + 1 :])
            yield o, i, -y[i]


SUMS: dict[str, Callable[[Call], Terms]] = {
    "DepthToSpace": _moved(_deep),
    "Einsum": einsum,
    "Expand": _moved(lambda call, places: np.broadcast_to(places, call.output)),
    "Gather": _moved(_gathered),
    "GlobalMaxPool": global_max_pool,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "RMSNormalization": rms_normalization,
    "ReduceL1": _reduce(lambda x: [np.sign(x)]),
    "ReduceL2": _reduce(lambda x: [x / math.sqrt((x**2).sum())]),
    "ReduceLogSumExp": _reduce(lambda x: [np.exp(x) / np.exp(x).sum()]),
    "ReduceMax": _reduce(lambda x: [(x == x.max()) / (x == x.max()).sum()]),
    "ReduceMean": _reduce(lambda x: [np.full(len(x), 1 / len(x))]),
    "ReduceMin": _reduce(lambda x: [(x == x.min()) / (x == x.min()).sum()]),
    "ReduceSum": _reduce(lambda x: [np.ones(len(x))]),
    "ReduceSumSquare": _reduce(lambda x: [2 * x]),
    "Resize": _moved(_resized),
    "SpaceToDepth": _moved(_flat),
    "Tile": _moved(lambda call, places: np.tile(places, call.inputs[1])),
}
