"""Help in two sizes: ``--help`` has what most need, ``--help-all`` every option."""

from typing import Annotated, Any

import typer

NAMES = {"help_option_names": ["-h", "--help"]}
_TEST = {f"report-{what}": f"test-{what}" for what in ("data", "labels", "fraction")}
OLDER = {
    "check": {**_TEST, "data": "calibration-data"},
    "compress": {**_TEST, "data": "calibration-data"},
    "apply": {"data": "test-data"},
}
"""Command -> names of options that it knows too -> those that its help shows."""


def settings_of(command: str) -> dict[str, Any]:
    """How a command reads its line."""
    older = OLDER.get(command, {})
    return {**NAMES, "token_normalize_func": lambda name: older.get(name, name)}


def advanced(*names: str, **more: Any) -> Any:
    """An option that only ``--help-all`` shows."""
    return typer.Option(*names, hidden=True, **more)


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
