"""Write the rooms of docs/architecture.md, and docs/architecture.svg, from the code.

python docs/make_architecture.py

A room is a package or a module right below ``onnxsemi``. Its floor stands in the import-linter
layers of ``pyproject.toml``, what it imports in the code, what it is in its docstring.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

import grimp

PROJECT = Path(__file__).parents[1]
PAGE, PICTURE = (Path(__file__).with_name(f"architecture.{kind}") for kind in ("md", "svg"))
PACKAGE = "onnxsemi"
BEGIN, END = "<!-- rooms: written by make_architecture.py -->\n", "<!-- end of rooms -->\n"
WORDS = "words"  # the column of the rooms that have no row


@dataclass(frozen=True)
class Room:
    """A package or module, and what its files import."""

    name: str
    floor: int  # 1 is the top
    title: str
    is_folder: bool
    rooms: frozenset[str]  # that it imports, without itself
    libraries: frozenset[str]  # that it imports and that are not Python's own


@cache
def rooms() -> tuple[Room, ...]:
    """All of them, from the top floor down, in the order of the contract."""
    graph = grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)
    found = []
    for floor, name in _floors():
        module = f"{PACKAGE}.{name}"
        files = {module, *graph.find_descendants(module)}
        imported = set[str]().union(*map(graph.find_modules_directly_imported_by, files))
        inner = {other for other in imported if other.startswith(f"{PACKAGE}.")}
        found.append(
            Room(
                name=name,
                floor=floor,
                title=_title(name),
                is_folder=(PROJECT / PACKAGE / name).is_dir(),
                rooms=frozenset(other.split(".")[1] for other in inner) - {name},
                libraries=frozenset(imported - inner - {PACKAGE} - sys.stdlib_module_names),
            )
        )
    return tuple(found)


def with_row() -> tuple[Room, ...]:
    """Those of the picture: down to the lowest folder. The files below are the words of all."""
    lowest = max(room.floor for room in rooms() if room.is_folder)
    return tuple(room for room in rooms() if room.floor <= lowest)


def _contracts() -> list[dict[str, str | list[str]]]:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    contracts: list[dict[str, str | list[str]]] = settings["tool"]["importlinter"]["contracts"]
    return contracts


def _floors() -> Iterator[tuple[int, str]]:
    (layers,) = (each["layers"] for each in _contracts() if each["type"] == "layers")
    for floor, names in enumerate(layers, 1):
        yield from ((floor, name) for name in re.findall(r"\w+", names))


def _title(room: str) -> str:
    source = PROJECT / PACKAGE / room
    source = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text("utf-8"))) or ""
    plain = re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", docstring.split("\n\n")[0])
    return " ".join(plain.replace("``", "`").split())


def page(text: str) -> str:
    """The page with its written part made anew; what stands around it stays."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def table() -> str:
    """Every room, then the rules that are checked beside the order of the floors."""
    lines = ["| floor | room | what it is | libraries |", "|---|---|---|---|"]
    for room in rooms():
        name = f"`{room.name}/`" if room.is_folder else f"`{room.name}.py`"
        libraries = ", ".join(sorted(room.libraries))
        lines.append(f"| {room.floor} | {name} | {room.title} | {libraries} |")
    rules = [f"- {contract['name']}." for contract in _contracts()]
    return "\n".join([*lines, "", "What `lint-imports` checks:", "", *rules, ""])


SIDE, LEFT, TOP = 22, 116, 112  # of a cell; of the names beside and above the cells; in pixels
STYLE = """
.paper{fill:#fff}.floor{fill:#eef1f4}text{fill:#1f2933;font:12px sans-serif}.row{text-anchor:end}
.self{fill:#c3ccd5}.room{fill:#2563a8}.words{fill:#71859a}.library{fill:#b4541a}
@media(prefers-color-scheme:dark){.paper{fill:#15191e}.floor{fill:#1f262e}text{fill:#dde4ea}
.self{fill:#46525e}.room{fill:#6aa9ea}.words{fill:#93a5b7}.library{fill:#ea9a63}}
""".replace("\n", "")


def picture() -> str:
    """A matrix: the room of a row imports that of a column.

    Rows and columns are in the order of the floors: all that imports upwards would lie left of the
    diagonal.
    """
    shown = with_row()
    columns = [room.name for room in shown] + [WORDS]
    columns += sorted({name for room in shown for name in room.libraries})
    width, height = _left(len(columns)) + 60, TOP + SIDE * len(shown) + 8
    title = f"Which room of {PACKAGE} imports which"
    body = [_rect("paper", 0, 0, width, height)]
    for row, room in enumerate(shown):
        body.extend(_row(row, room, columns))
    for at, name in enumerate(columns):
        place = f"translate({_left(at) + 15} {TOP - 8}) rotate(-50)"
        body.append(f'<text transform="{place}">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _row(row: int, room: Room, columns: list[str]) -> Iterator[str]:
    """The band of its floor (of every second one), its name, and a cell for whatever it imports."""
    top = TOP + SIDE * row
    if room.floor % 2:
        yield _rect("floor", 4, top, _left(len(columns)) - 4, SIDE)
    yield f'<text class="row" x="{LEFT - 8}" y="{top + 15}">{room.name}</text>'
    yield _rect("self", _left(row) + 5, top + 5, 12, 12, room.title)
    imported = {name if name in columns else WORDS for name in room.rooms | room.libraries}
    for name in sorted(imported, key=columns.index):
        kind = "library" if name in room.libraries else "words" if name == WORDS else "room"
        title = f"{room.name} imports {name}"
        yield _rect(kind, _left(columns.index(name)) + 5, top + 5, 12, 12, title)


def _left(column: int) -> int:
    return LEFT + SIDE * column


def _rect(kind: str, x: int, y: int, width: int, height: int, title: str = "") -> str:
    shape = f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="2"'
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
