"""Typer's parameters, made from what a command takes: its settings, as they are declared.

    def evaluate(model: AnyModel, data: Images, settings: EvaluateSettings) -> None: ...

Each field of a group of settings becomes an option. The command is given the ready groups: what was
not given is left to the default of its field, and so is a group of which nothing was given.
"""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, get_args, get_origin

import typer

from onnxsemi._cli.flags import with_flags
from onnxsemi._cli.help import HELP_ALL, NAMES, HelpAll
from onnxsemi._option import Declared, Option, Panel, declared, options_of

Command = Callable[..., None]
_PANELS = [None, *Panel]


def add_command(app: typer.Typer, command: Command) -> None:
    """Make a command of a function, under the function's name."""
    older = older_names(command)
    names = {**NAMES, "token_normalize_func": lambda name: older.get(name, name)}
    app.command(command.__name__, context_settings=names)(_flat(command))


def older_names(command: Command) -> dict[str, str]:
    """Names of options that a command knows too -> those that its help shows; without dashes."""
    return {
        older[2:]: each.flag[2:] for each, option in options_of(command) for older in option.older
    }


def ordered_options(command: Command) -> list[tuple[Declared, Option]]:
    """Options in the order of the help: by panel, what the command takes itself first."""
    own = declared(command)
    return sorted(
        options_of(command), key=lambda pair: (_PANELS.index(pair[1].panel), pair[0] not in own)
    )


def _flat(command: Command) -> Command:
    """The command as Typer calls it: a parameter an option."""
    options = ordered_options(command)

    def call(**given: Any) -> None:
        given.pop(HELP_ALL, None)  # its callback has shown it
        for each, option in options:
            if given[each.key] == _shown(each, option):
                del given[each.key]
            else:
                given[each.key] = _read(option, given[each.key])
        _built(command, given)

    plain = [each for each in declared(command) if each.group is None and each.option is None]
    parameters = [_parameter(each.name, each.hint, each.default) for each in plain]
    if any(option.advanced for _, option in options):
        parameters.append(_parameter(HELP_ALL, HelpAll, default=False))
    parameters += [_as_option(each, option) for each, option in options]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


def _built(owner: Callable[..., Any], given: dict[str, Any]) -> Any:
    """Call a command, or make a group of settings, of what was given."""
    values: dict[str, Any] = {}
    for each in declared(owner):
        key = each.key if each.option else each.name
        if each.group is None:
            values |= {each.name: given[key]} if key in given else {}
            continue
        own = {inner.key for inner, _ in options_of(each.group)} & given.keys()
        if own or each.default is inspect.Parameter.empty:
            values[each.name] = _built(each.group, {key: given[key] for key in own})
    return owner(**values)


def _as_option(each: Declared, option: Option) -> inspect.Parameter:
    """A setting as a parameter that Typer reads."""
    flags = option.flags or (each.flag,)
    if each.default is True:
        flags = (f"{each.flag}/--no-{each.flag[2:]}",)
    info = typer.Option(
        *flags,
        help=with_flags(each.help) + (" Repeatable." if option.repeated else ""),
        metavar=option.metavar,
        hidden=option.advanced,
        rich_help_panel=option.panel,
    )
    return _parameter(each.key, Annotated[_typed(each, option), info], _shown(each, option))


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _typed(each: Declared, option: Option) -> Any:
    """What Typer makes of the text: a text still, if the option reads it itself."""
    parts: Any = get_args(each.kind)
    kind: Any = each.kind
    if option.read is not None:
        kind = str
    elif any(get_origin(part) is os.PathLike for part in parts):
        kind = Path
    elif option.repeated:
        kind = parts[0]
    if option.repeated:
        kind = GenericAlias(list, kind)
    return kind | None if _shown(each, option) is None else kind


def _shown(each: Declared, option: Option) -> Any:
    """The default that the help shows; None for one that says nothing to a reader."""
    if option.repeated:
        return list(each.default) or None
    return None if option.read is not None else each.default


def _read(option: Option, value: Any) -> Any:
    read = option.read or (lambda text: text)
    return tuple(map(read, value)) if option.repeated else read(value)
