"""Load one model in a fresh process, and say how long it took and how much memory it needs.

    python -m onnxsemi._pipeline.load_probe MODEL THREADS FOLD

FOLD is 1 to open it as ``load_session`` does. One JSON document on standard output.
"""

import json
import sys
import time

from onnxsemi._runtime.memory import peak, resident
from onnxsemi._runtime.sessions import noise_feeds, open_session


def main() -> None:
    """Measure what the command line names."""
    path, threads, fold = sys.argv[1:]
    before = resident()
    began = time.perf_counter()
    session = open_session(path, threads=int(threads), fold=fold == "1")
    seconds = time.perf_counter() - began
    session.run(None, noise_feeds(session, 1))
    print(json.dumps({"seconds": seconds, "peak_bytes": peak() - before}))  # noqa: T201


if __name__ == "__main__":
    main()
