"""Which runtimes load the emitted files, agree with what was measured, and how fast.

    python benchmarks/runtimes.py

The files are those of ``runtime_files.py``. In ONNX Runtime 1.19 and 1.22, ``--every`` in each
minor version since, and in this environment's ONNX Runtime, OpenVINO and ``onnx.reference``; those
of the bundled model with three bitwidths (``--every``: all, where every profile must run) in the
other runtimes of ``runtime_matrix.py``. Packages are brought by pip and npm into ``--work``, once;
a runtime that cannot be brought is skipped, and named. Exits with 1 if a file that should agree
does not, or if a default session leaves what unpacks weights. ``--table`` writes the tables of
``benchmarks/README.md`` and ``docs/profiles.md`` anew, and measures for longer.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime_files import write_files
from runtime_matrix import EVERY, OLDER, OTHERS, PRESENT, MissingRuntimeError, Runtime, brought
from runtimes_table import Answers, Outcome, costs, matrix, wrong
from tables import replace_table, this_machine

PROFILES = Path(__file__).parents[1] / "docs" / "profiles.md"
SHORT, LONG = 0.1, 0.5
"""Seconds that a file's latency is measured for; for a table."""


def main() -> int:
    """Write the files, run them everywhere, print what was found."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--table", action="store_true", help="write the tables anew")
    options.add_argument("--every", action="store_true", help="every minor version since 1.19")
    options.add_argument("--work", type=Path, help="where packages are kept (default: nowhere)")
    arguments = options.parse_args()
    older = EVERY if arguments.every else OLDER
    with TemporaryDirectory(prefix="onnxsemi-") as name, ThreadPoolExecutor(1) as bringing:
        folder = Path(name)
        work = (arguments.work or folder / "packages").absolute()
        for runtime in (*older, *OTHERS):
            bringing.submit(_bring, runtime, work)
        files, few = write_files(folder, LONG if arguments.table else SHORT)
        runs, missing = [], []
        for runtime in (*older, *PRESENT, *OTHERS):
            every = runtime not in OTHERS or (arguments.every and runtime.everything)
            try:
                runs.append(_answers(runtime, files if every else few, work))
            except MissingRuntimeError as error:
                missing.append(f"SKIPPED, NOT TRIED: {runtime.title}: {error}")
    named, measured = f"{this_machine()}.", costs(runs)
    lines = [named, "", *matrix(runs)]
    print("\n".join([*lines, "", *measured]))
    if arguments.table:
        replace_table("runtimes", lines)
        replace_table("runtimes", [named, "", *measured], PROFILES)
    faults = wrong(runs)
    for line in [*missing, *faults]:
        print(line, file=sys.stderr)
    return 1 if faults else 0


def _bring(runtime: Runtime, work: Path) -> None:
    """Bring packages early; what is wrong is told when they are used."""
    try:
        brought(runtime, work)
    except MissingRuntimeError:
        return


def _answers(runtime: Runtime, files: Path, work: Path) -> Answers:
    """What a runtime makes of the files of a folder."""
    document = json.loads(runtime.run(files, work))
    found = {stem: Outcome(**outcome) for stem, outcome in document["found"].items()}
    return Answers(runtime, document["version"], found)


if __name__ == "__main__":
    sys.exit(main())
