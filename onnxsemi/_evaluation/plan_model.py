"""The model of a plan, made of its codes where it is run.

To other processes go codes and biases, a quarter of the float32 weights; those are put together
there, once for all images that a process answers.
"""

from collections.abc import Callable
from threading import Lock
from typing import Any

import onnx

from onnxsemi._model.classifier import Classifier
from onnxsemi._model.outputs import with_outputs
from onnxsemi._quantizer.plan_codes import PlanCodes
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._runtime.providers import CPU, Provider
from onnxsemi._runtime.sessions import Session

ModelOf = Callable[[Classifier, RoundedPlan], onnx.ModelProto]
"""Makes a model of codes: a function of a module, or a partial one."""


class PlanModel:
    """A plan to be answered by; of no plan, the float model."""

    def __init__(
        self,
        rounded: RoundedPlan | None = None,
        model_of: ModelOf | None = None,
        *,
        integers: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            rounded: Codes and biases; None for the float model.
            model_of: What runs, from these.
            integers: Whether it is to run on integer kernels. They are the processor's, whatever
                the provider.
        """
        self._rounded: RoundedPlan | PlanCodes | None = rounded
        self._model_of, self._integers = model_of, integers
        self._lock = Lock()
        self._session: Session | None = None

    def session(self, classifier: Classifier, provider: Provider) -> Session:
        """The session that answers, opened once."""
        with self._lock:
            if self._session is None:
                self._session = self._open(classifier, CPU if self._integers else provider)
            return self._session

    def _open(self, classifier: Classifier, provider: Provider) -> Session:
        # in one expression: a name would keep the serialized model while the session lives
        return Session(
            with_outputs(self._model(classifier), [classifier.ends.logits]).SerializeToString(),
            provider,
            integers=self._integers,
        )

    def _model(self, classifier: Classifier) -> onnx.ModelProto:
        if self._rounded is None or self._model_of is None:
            return classifier.proto
        if isinstance(self._rounded, PlanCodes):
            self._rounded = self._rounded.rounded(classifier.layers)
        return self._model_of(classifier, self._rounded)

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process."""
        rounded = self._rounded
        codes = PlanCodes.of(rounded) if isinstance(rounded, RoundedPlan) else rounded
        return {"codes": codes, "model_of": self._model_of, "integers": self._integers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The same on the other side."""
        self.__init__(None, state["model_of"], integers=state["integers"])  # type: ignore[misc]
        self._rounded = state["codes"]
