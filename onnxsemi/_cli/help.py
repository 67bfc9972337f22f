"""Help in two sizes: ``--help`` has what most need, ``--help-all`` every option."""

from typing import Annotated, Any

import typer

HELP_ALL = "help_all"
NAMES = {"help_option_names": ["-h", "--help"]}


def _show_all(context: typer.Context, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    hidden: list[Any] = [p for p in context.command.params if getattr(p, "hidden", False)]
    for option in hidden:
        option.hidden = False
    try:
        typer.echo(context.get_help(), color=context.color)
    finally:
        for option in hidden:
            option.hidden = True
    raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        is_eager=True,
        callback=_show_all,
        help="Show every option, also those that are seldom needed.",
    ),
]
