"""Running the commands in this process, as a user would type them."""

from typer.testing import CliRunner

from onnxsemi.cli import app

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def compress_command(folder, out, *more, model="model.onnx", data="search.npz"):
    report = ("--report-data", folder / "report.npz")
    return ("compress", folder / model, "--data", folder / data, *report, "-o", folder / out, *more)


def assert_one_line(result, *words):
    """Exit code 1, nothing on standard output, one line on standard error that has the words."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    for word in words:
        assert word in result.stderr, result.stderr
