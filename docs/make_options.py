"""Write the options in docs/command-line.md from where they are declared.

python docs/make_options.py
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

from onnxsemi._cli import COMMANDS
from onnxsemi._cli.flags import with_flags
from onnxsemi._cli.parameters import ordered_options
from onnxsemi._option import Declared, Option, Panel

PAGE = Path(__file__).with_name("command-line.md")
BEGIN, END = "<!-- options: written by make_options.py -->\n", "<!-- end of options -->\n"
_OTHERS = "Others"  # the panel of options that have none


@dataclass(frozen=True)
class Row:
    """An option, as the page shows it.

    Attributes:
        names: Its names, the value that it takes, its default, older names.
        help: What it does.
    """

    names: str
    help: str


def page(text: str) -> str:
    """The page with the options as they are declared."""
    before, rest = text.split(BEGIN)
    return "\n".join((f"{before}{BEGIN}", *_tables(), END)) + rest.split(END)[1]


def _tables() -> Iterator[str]:
    """A table a panel: each option once, with the commands that have it."""
    rows: dict[str, dict[Row, list[str]]] = {panel: {} for panel in (*Panel, _OTHERS)}
    for command in sorted(COMMANDS, key=lambda command: command.__name__ != "compress"):
        for each, option in ordered_options(command):
            text = re.sub(r"`\w+`", lambda name: f"`{with_flags(name[0])}`", each.help)
            row = Row(_names(each, option), text)
            rows[option.panel or _OTHERS].setdefault(row, []).append(command.__name__)
    for panel, found in rows.items():
        yield f"### {panel}\n\n| option | commands | what it does |\n|---|---|---|"
        for row, commands in found.items():
            yield f"| {row.names} | {', '.join(commands)} | {row.help} |"
        yield ""


def _names(each: Declared, option: Option) -> str:
    value = _value(each, option)
    flags = option.flags or (each.flag,)
    shown = ", ".join(f"`{flag}`" for flag in flags) + (f" {value}" if value else "")
    if each.default is True:
        shown += f", `--no-{each.flag[2:]}`"
    shown += "; repeatable" if option.repeated else ""
    shown += f"; `{_text(each.default)}` unless given" if _says(each.default) else ""
    return shown + "".join(f"; older name `{older}`" for older in option.older)


def _value(each: Declared, option: Option) -> str:
    """What it takes: the choices, what the help calls it, or its type; nothing for a switch."""
    kinds = [kind for kind in (get_args(each.kind) or (each.kind,)) if kind is not type(None)]
    if any(isinstance(kind, type) and issubclass(kind, StrEnum) for kind in kinds):
        return ", ".join(f"`{member.value}`" for member in kinds[0])
    if option.metavar is not None:
        return f"`{option.metavar}`"
    if option.read is not None:
        return "`TEXT`"
    return {bool: "", int: "`N`", float: "`X`", Path: "`PATH`"}.get(kinds[0], "`TEXT`")


def _says(default: Any) -> bool:
    """Whether a default is one that says something to a reader."""
    return isinstance(default, int | float | tuple | StrEnum) and not (
        isinstance(default, bool) or default == ()
    )


def _text(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
