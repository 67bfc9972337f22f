"""What the frontier's search went by, in words: predictions, and one bitwidth for all channels."""

import numpy as np

from onnxsemi._results.results import CompressResult
from onnxsemi._search.trajectory import FEW_CHANGES, Decision, Phase, Trajectory, Trial


def prediction_lines(result: CompressResult) -> list[str]:
    """How far predictions were right, and what one bitwidth for all channels would have given."""
    trajectory = result.trajectory
    return [
        *_uniform_line(trajectory),
        *_chosen_line(trajectory, result.chosen.trial),
        *(f"Predictions were corrected: {line}." for line in trajectory.redrawn),
    ]


def _chosen_line(trajectory: Trajectory, number: int) -> list[str]:
    trial = next((trial for trial in trajectory.trials if trial.number == number), None)
    if trial is None or trial.predicted is None or trial.kl is None:
        return []
    return [
        f"Predicted of the chosen plan: a KL of {trial.predicted:.2g} nats; measured "
        f"{trial.kl:.2g} on calibration images that nothing was fitted to."
    ]


def _uniform_line(trajectory: Trajectory) -> list[str]:
    tried = [trial for trial in trajectory.trials if trial.phase is Phase.UNIFORM]
    if not tried:
        return []
    held = [t for t in tried if t.decision is Decision.KEPT or t.reason == FEW_CHANGES]
    if not held:
        return ["One bitwidth for all channels holds at none of those that were tried."]
    smallest = max(held, key=lambda trial: trial.compression or 0.0)
    holds = "holds" if smallest.decision is Decision.KEPT else "seems to hold, by a quick look,"
    return [
        f"One bitwidth for all channels {holds} down to {_bits(smallest)} bits: "
        f"{smallest.compression or 0.0:.2%} of the target weights."
    ]


def _bits(trial: Trial) -> int:
    """The bitwidth of a uniform plan: that of the most channels, as pinned layers have others."""
    assert trial.plan is not None
    return int(np.bincount(trial.plan.channel_bits).argmax())
