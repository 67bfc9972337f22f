"""A run, or two side by side, as one HTML page that needs no network: SVG, and one small script.

One module a figure; :mod:`onnxsemi._report.page.markup` escapes all that is put into the page.
"""

from pathlib import Path

from onnxsemi._atomic_file import check_writable, whole_file
from onnxsemi._errors import OutputError
from onnxsemi._output_size import written_text
from onnxsemi._report.page.render import render
from onnxsemi._report.page.run import Run
from onnxsemi._report.page.side_by_side import render_two
from onnxsemi._run.folder import REPORT

__all__ = ["Run", "check_page", "render", "render_two", "write_comparison", "write_page"]


def check_page(output: Path, run: Path, others: tuple[Path, ...] = ()) -> None:
    """Refuse a place that the page cannot be written to.

    Args:
        output: Where to write the page.
        run: The run's folder; of its files only ``report.html`` may be the page.
        others: Files that are read or written too.

    Raises:
        OutputError: With the reason.
    """
    place, folder = output.absolute(), run.absolute()
    if any(place == other.absolute() for other in others):
        raise OutputError(f"{output}: is an input or another output; choose another name")
    if folder == place:
        raise OutputError(f"{output}: is the run's folder; name a file, such as report.html")
    if place == folder / REPORT and not folder.exists():
        return  # the run makes its folder
    if folder in place.parents and place != folder / REPORT:
        raise OutputError(
            f"{output}: lies in the run's folder, where a page is called {REPORT}; "
            "choose another name"
        )
    check_writable(output)


def write_page(run: Path, output: Path) -> None:
    """Write the page of a run that has a result.

    Args:
        run: The run's folder.
        output: Where to write; it appears whole or not at all.

    Raises:
        RunError: If the folder holds no result, or a damaged one.
        OutputError: If the page cannot be written.
    """
    page = render(Run.read(run))
    check_page(output, run)
    _write(page, output)


def write_comparison(runs: tuple[Path, Path], output: Path) -> None:
    """Write the page of two runs side by side.

    Args:
        runs: Their folders.
        output: Where to write, in neither of them; it appears whole or not at all.

    Raises:
        RunError: If a folder holds no result, or a damaged one.
        OutputError: If the page cannot be written.
    """
    one, other = runs
    page = render_two(Run.read(one), Run.read(other))
    for folder in runs:
        if folder.absolute() in (output.absolute(), *output.absolute().parents):
            raise OutputError(f"{output}: lies in the folder of a run; choose another name")
    check_writable(output)
    _write(page, output)


def _write(page: str, output: Path) -> None:
    data = written_text(page, output)
    with whole_file(output) as scratch:
        scratch.write_bytes(data)
