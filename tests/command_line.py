"""Running the commands in this process, as a user would type them."""

from typer.testing import CliRunner

from onnxsemi._cli import app

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


PAPER = {"--method": "semilayer", "--targets": "hidden"}


def compress_command(folder, out, *more, model="model.onnx", data="search.npz"):
    """The paper's method on the paper's layers, unless told otherwise.

    The tests' nets are random, so that they are no better than guessing: that needs --force.
    """
    said = [str(option).partition("=")[0] for option in more]
    paper = [word for flag, value in PAPER.items() if flag not in said for word in (flag, value)]
    report = ("--report-data", folder / "report.npz")
    inputs = ("compress", folder / model, "--data", folder / data, *report)
    return (*inputs, "-o", folder / out, "--force", *paper, *more)


def frontier_command(folder, out, *more, **inputs):
    """The frontier on all layers: the defaults."""
    defaults = ("--method", "frontier", "--targets", "all")
    return compress_command(folder, out, *defaults, *more, **inputs)


def assert_one_line(result, *words, code=1):
    """Nothing on standard output, one line on standard error that has the words.

    Before an error that comes after the images were looked at there may be warnings about these.
    """
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.endswith("\n")
    *warnings, error = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert all(line.startswith("warning: ") for line in warnings)
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    for word in words:
        assert word in error, result.stderr
