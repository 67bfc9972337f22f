"""No function of the package takes more than a reader can keep apart."""

import ast
from pathlib import Path

import pytest

import onnxsemi

PACKAGE = Path(onnxsemi.__file__).parent
MOST = 8
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


def parameters(function):
    """Every one, those of a method without the object or class that it is called on."""
    own = function.args
    named = [each.arg for each in (*own.posonlyargs, *own.args, *own.kwonlyargs)]
    rest = [each.arg for each in (own.vararg, own.kwarg) if each is not None]
    return [name for name in (*named, *rest) if name not in ("self", "cls")]


@pytest.mark.parametrize("room", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_function_has_more_parameters(room):
    for function in functions(ast.parse(room.read_text(encoding="utf-8"))):
        taken = parameters(function)
        assert len(taken) <= MOST, f"{getattr(function, 'name', 'lambda')}: {taken}"


def test_they_are_counted():
    (one, other) = functions(ast.parse("def f(self, a, /, b, *c, d=1, **e): ...\nlambda x: x"))
    assert parameters(one) == ["a", "b", "d", "c", "e"]
    assert parameters(other) == ["x"]
