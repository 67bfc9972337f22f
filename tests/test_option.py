"""An option is declared once: what the command line makes of the fields of settings."""

import re
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from onnxsemi import DataOptions, Pin, ReadOptions, RoundingSettings, RunOptions, SearchSettings
from onnxsemi._cli import COMMANDS
from onnxsemi._cli.flags import with_flags
from onnxsemi._cli.parameters import add_command
from onnxsemi._option import Decides, Option, Panel, Without, declared, options_of, values_of
from onnxsemi._settings import ApplySettings, BenchSettings, EvaluateSettings, Settings


def taken(kind, *words):
    """The settings that a command is given."""
    found = []

    def take(settings) -> None:
        found.append(settings)

    take.__annotations__["settings"] = kind
    app = typer.Typer()
    add_command(app, take)
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return found[0]


def searched(**given):
    return Settings(search=SearchSettings(**given))


def rounding(**given):
    return Settings(rounding=RoundingSettings(**given))


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("", Settings()),
        ("--max-drop 0.5 --tolerance 1", searched(max_drop=0.5, tolerance=1.0)),
        ("--bits 8,4,2", searched(bits=(8, 4, 2))),
        ("--method semilayer --guarantee point", searched(method="semilayer", guarantee="point")),
        ("--rounding nearest", rounding(method="nearest")),
        ("--rounding gptq", Settings()),  # the default, so that it is as if not given
        ("--no-bias-correction --ranges mse", rounding(bias_correction=False, ranges="mse")),
        ("--pin a=8 --pin b*=4", Settings(pins=(Pin("a", 8), Pin("b*", 4)))),
        ("--exclude a --exclude b", Settings(model=ReadOptions(exclude=("a", "b")))),
        ("--mean 0.5,0.25 --crop 8", Settings(data=DataOptions(mean=(0.5, 0.25), crop=8))),
        ("--labels a.csv", Settings(data=DataOptions(labels="a.csv"))),
        ("--test-fraction 0.25 --force", Settings(test_fraction=0.25, force=True)),
        ("--report-fraction 0.25", Settings(test_fraction=0.25)),  # its older name
        ("--max-memory 1KB --threads 3", Settings(max_memory=1024, threads=3)),
        ("--time-budget 1m30s --resume", Settings(run=RunOptions(time_budget=90.0, resume=True))),
        ("--profile int8 --calibration entropy", Settings(profile="int8", calibration="entropy")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_compress(words, settings):
    assert taken(Settings, *words.split()) == settings


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("--at 85% --align 16", ApplySettings(at="85%", align=16)),
        (
            "--output y --force --std 0.5",
            EvaluateSettings(output="y", force=True, data=DataOptions(std=(0.5,))),
        ),
        ("", BenchSettings()),
        ("--batch 4 --rounds 2 --threads 3", BenchSettings(batches=(4,), rounds=2, threads=3)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_other_commands(words, settings):
    assert taken(type(settings), *words.split()) == settings


def test_what_a_command_does_not_take():
    kind = Annotated[Settings, Without(frozenset({"run", "bench"}))]
    assert taken(kind, "--seed", 3) == Settings(seed=3)
    with pytest.raises(AssertionError, match="No such option: --resume"):
        taken(kind, "--resume")


def test_what_is_not_declared_is_no_option_but_decides():
    @dataclass(frozen=True, kw_only=True)
    class Group:
        seen: Annotated[int, Option(help="", panel=Panel.RUN, decides=Decides.NOTHING)] = 1
        unseen: int = 2

    assert [each.name for each, _ in options_of(Group)] == ["seen"]
    assert [each.decides for each in declared(Group)] == [Decides.NOTHING, Decides.MEASUREMENTS]
    assert [(each.flag, value) for each, value in values_of(Group())] == [
        ("--seen", 1),
        ("--unseen", 2),
    ]


def test_values_of_a_group_that_is_none():
    flags = [each.flag for each, _ in values_of(Settings())]
    assert len(set(flags)) == len(flags)
    assert "--ranges" not in flags
    assert ("--ranges", "mse") in [(e.flag, v) for e, v in values_of(rounding(ranges="mse"))]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_option_of_a_command(command):
    """One meaning a flag; a help that is a sentence, and names other options as they are typed."""
    options = list(options_of(command))
    names = [flag for each, option in options for flag in (option.flags or (each.flag,))]
    names += [older for _, option in options for older in option.older]
    assert len(set(names)) == len(names)
    for each, _ in options:
        assert each.help.endswith(".")
        assert "`" not in with_flags(each.help)
        assert not re.search(r"--[a-z]", each.help)
