"""Write docs/api.md from the signatures and docstrings of what onnxsemi exports.

python docs/make_api.py
"""

import ast
import dataclasses
import enum
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnxsemi

PAGE = Path(__file__).with_name("api.md")
_KINDS: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("Functions", inspect.isroutine),
    ("Choices", lambda member: issubclass(member, enum.Enum)),
    ("Errors", lambda member: issubclass(member, Exception)),
    ("Results", lambda member: member.__name__.endswith("Result") or member is onnxsemi.Paired),
    ("Settings and data", lambda _member: True),
)
_HEAD = """# Python

Everything that `import onnxsemi` gives. Written by `docs/make_api.py` from the docstrings;
do not edit. Paths may be strings. Whatever a user's model, data or settings can cause raises an
`OnnxSemiError`.
"""


def page() -> str:
    """The whole page."""
    members = [(name, getattr(onnxsemi, name)) for name in onnxsemi.__all__ if name[0] != "_"]
    parts = [_HEAD]
    for kind, belongs in _KINDS:
        here = [(name, member) for name, member in members if belongs(member)]
        members = [pair for pair in members if pair not in here]
        parts.append(f"## {kind}\n")
        parts.extend(_entry(name, member) for name, member in here)
    return "\n".join(parts)


def _entry(name: str, member: Any) -> str:
    text = [f"### {name}\n"]
    if inspect.isroutine(member) or dataclasses.is_dataclass(member):
        text.append(f"```\n{_signature(name, member)}\n```\n")
    text.append(_markdown(inspect.getdoc(member) or ""))
    if inspect.isclass(member) and issubclass(member, enum.Enum):
        text.extend(f"- `{choice.value}`: {said}" for choice, said in _choices(member))
        text.append("")
    elif inspect.isclass(member):
        text.extend(_methods(member))
    return "\n".join(text)


def _signature(name: str, member: Any) -> str:
    """One line if it fits, else a line a parameter, types as they are written in the source."""
    source = textwrap.dedent(inspect.getsource(member))
    (tree,) = ast.parse(source).body
    if isinstance(tree, ast.ClassDef):
        fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        shown = [ast.unparse(node).replace("field(default_factory=", "(") for node in fields]
        only = inspect.signature(member).parameters.values()
        named = any(parameter.kind is parameter.KEYWORD_ONLY for parameter in only)
        parameters, result = ["*", *shown] if named else shown, ""
    else:
        assert isinstance(tree, ast.FunctionDef)
        parameters = _parameters(tree.args)
        result = f" -> {ast.unparse(tree.returns)}" if tree.returns else ""
    line = f"{name}({', '.join(parameters)}){result}"
    if len(line) <= 90:
        return line
    return "\n".join((f"{name}(", *(f"    {each}," for each in parameters), f"){result}"))


def _parameters(arguments: ast.arguments) -> list[str]:
    """Parameters with their types and defaults; ``self`` and ``cls`` are left out."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    found = list(zip(plain, defaults, strict=True))
    by_name = list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    shown = [
        ast.unparse(given) + ("" if default is None else f" = {ast.unparse(default)}")
        for given, default in (*found, *by_name)
        if given.arg not in ("self", "cls")
    ]
    if by_name:
        shown.insert(len(shown) - len(by_name), "*")
    return shown


def _choices(member: type[enum.Enum]) -> Iterator[tuple[enum.Enum, str]]:
    """Each with the docstring behind it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(member))).body[0].body  # type: ignore[attr-defined]
    said = {
        one.targets[0].id: " ".join(other.value.value.split())
        for one, other in pairwise(body)
        if isinstance(one, ast.Assign) and isinstance(other, ast.Expr)
    }
    return ((choice, _inline(said[choice.name])) for choice in member)


def _methods(member: type) -> Iterator[str]:
    """Public methods and properties that the class itself defines."""
    for name, value in vars(member).items():
        plain = value.__func__ if isinstance(value, classmethod) else value
        if name.startswith("_") or not (inspect.isfunction(plain) or isinstance(plain, property)):
            continue
        shown = f"`{name}`" if isinstance(plain, property) else f"`{_signature(name, plain)}`"
        yield f"**{' '.join(shown.split())}**\n"
        yield _markdown(inspect.getdoc(plain) or "")


def _markdown(docstring: str) -> str:
    """Google sections become lists, doctests code, and roles plain code."""
    lines: list[str] = []
    for part in re.split(r"\n\n", docstring):
        section = re.match(r"(Args|Attributes|Raises|Returns|Yields):\n", part)
        if section:
            body = textwrap.dedent(part[section.end() :])
            items = body if section[1] in ("Returns", "Yields") else _items(body)
            lines.append(f"*{section[1]}*\n\n{_inline(items)}\n")
        elif part.startswith((">>>", "    ")):
            lines.append(f"```\n{textwrap.dedent(part)}\n```\n")
        else:
            lines.append(f"{_inline(part)}\n")
    return "\n".join(lines)


def _items(body: str) -> str:
    """``name: text`` with indented lines behind it -> one item each."""
    joined = re.sub(r"\n\s+", " ", body)
    return re.sub(r"^(\w+): ", r"- `\1`: ", joined, flags=re.MULTILINE)


def _inline(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
