"""Shell completion, through the variables that the scripts of bash and zsh set."""

import pytest
from typer.testing import CliRunner

from onnxsemi._cli import app
from onnxsemi._emit.profile import Profile
from onnxsemi._model.targets import TargetPolicy


def completed(shell, line):
    """What the shell is told to offer behind a line."""
    variables = {"_ONNXSEMI_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        words = line.split(" ")
        variables |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    else:
        variables |= {"_TYPER_COMPLETE_ARGS": line}
    result = CliRunner().invoke(app, [], prog_name="onnxsemi", env=variables)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh"])
class TestCompletion:
    def test_script(self, shell):
        variables = {"_ONNXSEMI_COMPLETE": f"source_{shell}"}
        script = CliRunner().invoke(app, [], prog_name="onnxsemi", env=variables)
        assert script.exit_code == 0
        assert f"_ONNXSEMI_COMPLETE=complete_{shell}" in script.stdout

    def test_commands(self, shell):
        found = completed(shell, "onnxsemi ")
        for command in ("compress", "apply", "evaluate", "inspect", "bench"):
            assert command in found

    def test_options(self, shell):
        found = completed(shell, "onnxsemi compress --re")
        assert all(option in found for option in ("--resume", "--report"))
        assert "--test-data" in completed(shell, "onnxsemi compress --te")

    @pytest.mark.parametrize(
        ("option", "choices"), [("--profile", Profile), ("--targets", TargetPolicy)]
    )
    def test_values_of_choices(self, shell, option, choices):
        found = completed(shell, f"onnxsemi compress {option} ")
        assert all(choice.value in found for choice in choices)

    def test_begun_value(self, shell):
        found = completed(shell, "onnxsemi apply --profile na")
        assert "native" in found
        assert "nodes" not in found
