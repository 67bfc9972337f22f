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
from onnxsemi._option import Declared, declared

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
    text.append(_markdown(_documented(member)))
    if inspect.isclass(member) and issubclass(member, enum.Enum):
        text.extend(f"- `{choice.value}`: {said}" for choice, said in _choices(member))
        text.append("")
    elif inspect.isclass(member):
        text.extend(_methods(member))
    return "\n".join(text)


def _documented(member: Any) -> str:
    """The docstring; of settings with the help of each option that it does not speak of itself."""
    docstring = inspect.getdoc(member) or ""
    fields = declared(member) if _has_fields(member) else ()
    if all(each.option is None for each in fields):
        return docstring
    docs = [inspect.cleandoc(kind.__doc__ or "") for kind in reversed(member.__mro__)]
    owns = "\n".join(doc.partition("\n\nAttributes:\n")[2] for doc in docs)
    said = dict(re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", owns, flags=re.MULTILINE))
    said = {each.name: each.help for each in fields if each.option is not None} | said
    lines = (f"    {each.name}: {said[each.name]}" for each in fields)
    return "\n".join((docstring.partition("\n\nAttributes:")[0], "\nAttributes:", *lines))


def _signature(name: str, member: Any) -> str:
    """One line if it fits, else a line a parameter, types as they are written in the source."""
    source = textwrap.dedent(inspect.getsource(member))
    (tree,) = ast.parse(source).body
    if isinstance(tree, ast.ClassDef) and not _has_fields(member):
        own = (node for node in tree.body if isinstance(node, ast.FunctionDef))
        parameters = _parameters(next(node for node in own if node.name == "__init__").args)
        result = ""
    elif isinstance(tree, ast.ClassDef):
        shown = list(_fields(member))
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


def _has_fields(member: Any) -> bool:
    """Whether it is a dataclass that is made of its fields, not by an ``__init__`` of its own."""
    if not dataclasses.is_dataclass(member):
        return False
    return list(inspect.signature(member).parameters) == [
        f.name for f in dataclasses.fields(member) if f.init
    ]


def _fields(member: type) -> Iterator[str]:
    """Fields of a dataclass, those of its bases first, without what they are annotated with."""
    written: dict[str, ast.AnnAssign] = {}
    for kind in reversed([kind for kind in member.__mro__ if dataclasses.is_dataclass(kind)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
        written |= {node.target.id: node for node in body if isinstance(node, ast.AnnAssign)}
    for each in declared(member):
        node = written[each.name]
        node.annotation = _plain_type(node.annotation, each)
        yield ast.unparse(node).replace("field(default_factory=", "(")


def _plain_type(written: ast.expr, each: Declared) -> ast.expr:
    """As it is written in the source, if that is more than a name for an option."""
    if isinstance(written, ast.Subscript) and ast.unparse(written.value) == "Annotated":
        assert isinstance(written.slice, ast.Tuple)
        return written.slice.elts[0]
    named = each.option is not None
    return ast.Name(inspect.formatannotation(each.kind)) if named else written


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
