"""Derivatives of operators that work value by value, from their definitions: summands of y'(x)."""

import math
from collections.abc import Callable

import numpy as np
from jacobian_call import Call, Place, Terms, broadcast, met, other_value


def values(derivative: Callable[[float, Call], list[float]]) -> Callable[[Call], Terms]:
    def terms(call: Call) -> Terms:
        for i in np.ndindex(*call.x.shape):
            for term in derivative(float(call.x[i]), call):
                yield i, i, term

    return terms


def _clip(x: float, call: Call) -> list[float]:
    low, high = (call.inputs[i] if len(call.inputs) > i else None for i in (1, 2))
    return [float((low is None or x > low) and (high is None or x < high))]


def _leaky_relu(x: float, call: Call) -> list[float]:
    return [1.0 if x > 0 else call.attribute("alpha", 0.01)]


def _sigmoid(x: float, _call: Call) -> list[float]:
    y = 1 / (1 + math.exp(-x))
    return [y, -y * y]


def _hard_sigmoid(x: float, call: Call) -> list[float]:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    return [alpha if 0 < alpha * x + beta < 1 else 0.0]


def _hard_swish(x: float, _call: Call) -> list[float]:
    return [x / 6, x / 6 + 0.5] if -3 < x < 3 else [float(x >= 3)]


def _gated(gate: float, x: float, slope: float) -> list[float]:
    """Of x * gate(x)."""
    return [gate, x * slope]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _gelu(x: float, call: Call) -> list[float]:
    if call.attribute("approximate", b"none") == b"none":
        density = math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return [0.5, math.erf(x / math.sqrt(2)) / 2, x * density]
    root = math.sqrt(2 / math.pi)
    t = math.tanh(root * (x + 0.044715 * x**3))
    inner = root * x * (1 + 3 * 0.044715 * x**2) / 2
    return [0.5, t / 2, inner, -inner * t * t]


def _softplus(x: float, _call: Call) -> list[float]:
    """ONNX Runtime's sigmoid is off by an absolute error: as 1 - sigmoid(-x)."""
    return [1.0, -_logistic(-x)]


def _swish(x: float, call: Call) -> list[float]:
    alpha = call.attribute("alpha", 1.0)
    s, rest = _logistic(alpha * x), _logistic(-alpha * x)
    return [1.0, -rest, alpha * x * s, -alpha * x * s * s]


def _mish(x: float, _call: Call) -> list[float]:
    t = math.tanh(math.log1p(math.exp(x)))
    return [*_gated(t, x, _logistic(x)), -x * _logistic(x) * t * t]


def _selu(x: float, call: Call) -> list[float]:
    alpha, gamma = call.attribute("alpha", 1.6732632), call.attribute("gamma", 1.0507010)
    return [gamma * (1 if x > 0 else alpha * math.exp(x))]


def _prelu(call: Call, o: Place) -> float:
    slope = call.inputs[1]
    return 1.0 if call.x[o] > 0 else float(slope[met(o, slope.shape)])


def _power(call: Call, o: Place) -> float:
    exponent = other_value(call, o)
    return exponent * float(call.x[met(o, call.x.shape)]) ** (exponent - 1)


def _divided(call: Call, o: Place) -> float:
    if call.place == 0:
        return 1 / other_value(call, o)
    return -other_value(call, o) / float(call.x[met(o, call.x.shape)]) ** 2


def _chosen(call: Call, o: Place) -> float:
    condition = call.inputs[0]
    return float(bool(condition[met(o, condition.shape)]) == (call.place == 1))


def _extreme(best: Callable[[list[float]], float]) -> Callable[[Call, Place], float]:
    """1 for the first of the operands that has the best value."""

    def factor(call: Call, o: Place) -> float:
        values_ = [float(v[met(o, v.shape)]) for v in call.inputs]
        return float(values_.index(best(values_)) == call.place)

    return factor


VALUES: dict[str, Callable[[Call], Terms]] = {
    "Abs": values(lambda x, _call: [math.copysign(1, x)]),
    "Add": broadcast(lambda _call, _o: 1.0),
    "Celu": values(lambda x, call: [1.0 if x > 0 else math.exp(x / call.attribute("alpha", 1.0))]),
    "Clip": values(_clip),
    "Cos": values(lambda x, _call: [-math.sin(x)]),
    "Div": broadcast(_divided),
    "Elu": values(lambda x, call: [1.0 if x > 0 else call.attribute("alpha", 1.0) * math.exp(x)]),
    "Erf": values(lambda x, _call: [2 / math.sqrt(math.pi) * math.exp(-(x**2))]),
    "Exp": values(lambda x, _call: [math.exp(x)]),
    "Gelu": values(_gelu),
    "HardSigmoid": values(_hard_sigmoid),
    "HardSwish": values(_hard_swish),
    "LeakyRelu": values(_leaky_relu),
    "Log": values(lambda x, _call: [1 / x]),
    "Max": broadcast(_extreme(max)),
    "Mean": broadcast(lambda call, _o: 1 / len(call.inputs)),
    "Min": broadcast(_extreme(min)),
    "Mish": values(_mish),
    "Mul": broadcast(other_value),
    "Neg": values(lambda _x, _call: [-1.0]),
    "PRelu": broadcast(_prelu),
    "Pow": broadcast(_power),
    "Reciprocal": values(lambda x, _call: [-1 / x**2]),
    "Relu": values(lambda x, _call: [float(x > 0)]),
    "Selu": values(_selu),
    "Sigmoid": values(_sigmoid),
    "Sin": values(lambda x, _call: [math.cos(x)]),
    "Softplus": values(_softplus),
    "Softsign": values(lambda x, _call: [1 / (1 + abs(x)) ** 2]),
    "Sqrt": values(lambda x, _call: [0.5 / math.sqrt(x)]),
    "Sub": broadcast(lambda call, _o: (1.0, -1.0)[call.place]),
    "Sum": broadcast(lambda _call, _o: 1.0),
    "Swish": values(_swish),
    "Tanh": values(lambda x, _call: [1.0, -(math.tanh(x) ** 2)]),
    "ThresholdedRelu": values(lambda x, call: [float(x > call.attribute("alpha", 1.0))]),
    "Where": broadcast(_chosen),
}
