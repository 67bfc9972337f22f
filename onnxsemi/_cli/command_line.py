"""The command line as it was typed, for reports: how to do the same again."""

import shlex
from collections.abc import Callable, Container, Iterator
from enum import Enum

import typer

from onnxsemi._option import Decides, options_of


def command_line(context: typer.Context, command: Callable[..., None]) -> str:
    """Arguments and options that were given, in the order of the help, quoted for a shell.

    Options are taken from what was parsed, and not from ``sys.argv``: short names become long ones.
    What changes no result is left out.
    """
    left_out = {
        each.key for each, option in options_of(command) if option.decides is Decides.NOTHING
    }
    return shlex.join(["onnxsemi", str(context.info_name), *_words(context, left_out)])


def _words(context: typer.Context, left_out: Container[str]) -> Iterator[str]:
    for parameter in context.command.params:
        name = parameter.name
        source = context.get_parameter_source(name) if name else None
        if not name or name in left_out or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        flags = () if parameter.param_type_name == "argument" else (_flag(parameter.opts),)
        if isinstance(value, bool):
            yield _flag(parameter.opts if value else parameter.secondary_opts)
            continue
        for item in value if isinstance(value, list) else [value]:
            yield from (*flags, str(item.value if isinstance(item, Enum) else item))


def _flag(names: list[str]) -> str:
    return max(names, key=len)
