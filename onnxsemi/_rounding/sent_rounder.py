"""Rounding a plan as a whole in another process: for models too small for several to share one."""

from threading import Lock
from typing import Any

from onnxsemi._evaluation.workload import Workload
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.plan_codes import PlanCodes
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.sequential import SequentialRounder
from onnxsemi._rounding.table import RoundingTable


class SentRounder:
    """A rounder that keeps, where it is, what it has seen of the float model."""

    def __init__(self, table: RoundingTable, settings: RoundingSettings, seed: int) -> None:
        """See nothing yet; see :class:`~onnxsemi._rounding.sequential.SequentialRounder`."""
        self._given = table, settings, seed
        self._lock = Lock()
        self._rounder: SequentialRounder | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what was seen."""
        return SentRounder, self._given

    def rounded(self, workload: Workload, plan: BitPlan, known: PlanCodes | None) -> PlanCodes:
        """Round a plan.

        Args:
            workload: The model, and always the same images.
            plan: Bits of every target channel.
            known: Another plan that was rounded; see
                :class:`~onnxsemi._rounding.sequential.SequentialRounder`.
        """
        layers = workload.classifier.layers
        with self._lock:
            if self._rounder is None:
                self._rounder = SequentialRounder(workload, *self._given)
            before = None if known is None else known.rounded(layers)
            return PlanCodes.of(self._rounder(plan, Silent(), before))


def rounded_whole(
    workload: Workload, rounder: SentRounder, plan: BitPlan, known: PlanCodes | None
) -> PlanCodes:
    """A task; see :meth:`SentRounder.rounded`."""
    return rounder.rounded(workload, plan, known)
