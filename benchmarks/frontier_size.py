"""What the frontier costs at a ResNet-50's size, without a model: random KL increases.

    python benchmarks/frontier_size.py

54 layers, 27,560 channels, 25.5 million weights, bitwidths 8 to 1. CPU seconds of every point with
its predicted KL increase, of writing the points of a run, of reading them again and of listing
them. What it prints stands in ``README.md``.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from onnxsemi import pareto
from onnxsemi._data.load import DataOptions
from onnxsemi._plan.bits import BitPlan
from onnxsemi._report.conversion import pareto_document
from onnxsemi._report.pareto import pareto_table
from onnxsemi._run.folder import MadeOf, open_run
from onnxsemi._run.frontier import KeptFrontier, KeptPoint, Source, by_size
from onnxsemi._run.frontier_file import write_frontier
from onnxsemi._run.plan_file import PlanFile, layers_of
from onnxsemi._runtime.processor import Processor
from onnxsemi._search.correction import Prediction
from onnxsemi._search.frontier_course import Course
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._search.tolerance import ToleranceGuard

LADDER = (8, 7, 6, 5, 4, 3, 2, 1)
BLOCKS = (3, 4, 6, 3)


def shapes() -> Iterator[tuple[int, int]]:
    """Channels of each layer of a ResNet-50, and weights in one of them."""
    yield 64, 3 * 49
    wide = 64
    for stage, blocks in enumerate(BLOCKS):
        narrow = 64 * 2**stage
        for block in range(blocks):
            yield narrow, wide
            yield narrow, narrow * 9
            yield 4 * narrow, narrow
            if not block:
                yield 4 * narrow, wide
            wide = 4 * narrow
    yield 1000, wide


def synthetic(seed: int = 0) -> tuple[BitPlan, DeltaLossTable]:
    """A float32 plan, and KL of its channels that about quadruples with every bit taken away."""
    rng, sizes = np.random.default_rng(seed), {f"layer{n}": s for n, s in enumerate(shapes())}
    start = BitPlan(
        {name: (32,) * channels for name, (channels, _) in sizes.items()},
        {name: weights for name, (_, weights) in sizes.items()},
    )
    nats = {
        name: np.cumsum(
            rng.lognormal(-18, 1, (channels, 1)) * rng.lognormal(0, 0.5, (channels, 8))
            * 4.0 ** np.arange(8), axis=1,
        )
        for name, (channels, _) in sizes.items()
    }  # fmt: skip
    return start, DeltaLossTable(LADDER, nats, samples=512)


@contextmanager
def timed(what: str, found: dict[str, float]) -> Iterator[None]:
    """Note the CPU time of a block."""
    began = time.process_time()
    yield
    found[what] = time.process_time() - began


def main() -> None:
    """Measure, and print."""
    start, kl_increase = synthetic()
    found: dict[str, float] = {}
    with timed("every point", found):
        prediction = Prediction(kl_increase)
        points = [
            KeptPoint(plan=plan, predicted=prediction.of(plan), file_bytes=plan.weight_bits // 8)
            for plan in Course(start, list(kl_increase.nats), kl_increase).plans
        ]
    made = MadeOf({}, {}, (Processor.here(),))
    with tempfile.TemporaryDirectory() as name, open_run(Path(name) / "run", made, resume=False):
        folder, plan = Path(name) / "run", points[64].plan
        document = PlanFile(
            model="ab" * 32, targets="all", scheme="asymmetric", layers=layers_of(plan.bits),
            tool="", plan_sha256=plan.sha256,
        )  # fmt: skip
        kept = KeptFrontier(
            document=document, source=Source(model=None, data=None, options=DataOptions()),
            method="frontier", profile="qdq", guard=ToleranceGuard(max_drop=0, tolerance=0.5),
            has_labels=True, images=4000, correct=3000, as_written=None, points=by_size(points),
        )  # fmt: skip
        with timed("written", found):
            write_frontier(kept, folder)
        with timed("read again", found):
            again = pareto(folder)
        with timed("listed", found):
            pareto_table(again, folder, every=True)
            pareto_document(again, folder)
    print(f"{plan.parameters:,} weights, {len(plan.channel_bits):,} channels")
    print(", ".join(f"{what} {seconds:.2f} s" for what, seconds in found.items()))
    print(f"together {sum(found.values()):.2f} s of CPU")


if __name__ == "__main__":
    main()
