"""Emit a plan, verify the written file, and only then let it appear."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from onnxsemi._arrays import Float32Array
from onnxsemi._atomic_file import check_writable, temporary_folder
from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.verification import verify
from onnxsemi._errors import ModelError, OutputError, PlanError, VerificationError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.loader import Model, model_files, path_of
from onnxsemi._output_size import check_model_size
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._reading import reading, regular_file
from onnxsemi._results import wording
from onnxsemi._results.results import ApplyResult, CompressResult, LossError


def check_output(output: Path, model: Model, *inputs: object) -> None:
    """Refuse an output that cannot be written, or that is one of the inputs.

    Args:
        output: Where to write.
        model: The input model; its external data count as inputs too.
        inputs: Whatever else is read; only paths matter.

    Raises:
        OutputError: With the reason.
    """
    check_writable(output)
    others = [Path(source) for source in inputs if isinstance(source, str | os.PathLike)]
    for path in (*_files(path_of(model)), *others):
        if _same_file(output, path):
            raise OutputError(f"{output}: is an input too; choose another name")


def _files(source: Path | None) -> list[Path]:
    """The input itself, and the external data of a model."""
    if source is None:
        return []
    try:
        regular_file(source, ModelError)
        with reading(ModelError, f"{source}: cannot be read"):
            return model_files(source)
    except ModelError:
        return [source]  # no model; whatever is wrong with it is said where it is read


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one of them is not there
        return False


def plan_path(output: Path) -> Path:
    """Where the plan is written: ``small.onnx`` -> ``small.plan.json``."""
    return output.with_suffix(".plan.json")


UNWRITABLE = (PlanError, ModelError, VerificationError)
"""What speaks against a plan's file, not against the run."""


@dataclass(frozen=True, eq=False)
class Written:
    """A verified file that is about to appear.

    Attributes:
        path: Where it is for now.
        logits: Read back, on the images: float32[N, K].
    """

    path: Path
    logits: Float32Array


def not_given(error: Exception) -> str:
    """What speaks against a plan that cannot be a file, from one of ``UNWRITABLE``."""
    return f"its file cannot be given: {error}"


@dataclass(frozen=True, eq=False)
class Writer:
    """Writes plans as files and verifies what stands there; the same bytes need that only once.

    Attributes:
        workload: The float model, and images to verify files on.
        profile: Form of the files.
        ranges: Ranges of the activations, to quantize those too.
        verified: SHA-256 of the files that were verified.
    """

    workload: Workload
    profile: Profile
    ranges: ActivationRanges | None = None
    verified: set[str] = field(default_factory=set, init=False)

    def refusal(self, rounded: RoundedPlan) -> str | None:
        """Why a plan cannot be a file: it cannot be written, or is not what was measured; or None.

        Args:
            rounded: Codes of every target channel.
        """
        with temporary_folder() as folder:
            path = Path(folder) / "tried.onnx"
            try:
                self._put(rounded, path)
            except UNWRITABLE as error:
                return not_given(error).replace(f"{path}: ", "")
        return None

    def write(self, rounded: RoundedPlan, scratch: Path, output: Path) -> None:
        """Write a verified file without measuring it on all images.

        Args:
            rounded: Codes of every target channel.
            scratch: Where to for now.
            output: What it is to be, for messages.

        Raises:
            VerificationError: If the file is not what was measured.
        """
        try:
            self._put(rounded, scratch)
        except VerificationError as error:
            raise VerificationError(str(error).replace(str(scratch), str(output))) from error

    def written(
        self, rounded: RoundedPlan, scratch: Path, output: Path, workload: Workload | None = None
    ) -> Written:
        """Write a verified file, and measure it.

        Args:
            rounded: Codes of every target channel.
            scratch: Where to for now.
            output: What it is to be, for messages.
            workload: Images to measure the file on; those to verify it on unless given.

        Raises:
            VerificationError: If the file is not what was measured.
        """
        self.write(rounded, scratch, output)
        model, integers = onnx.load_model(scratch), self.ranges is not None
        return Written(scratch, (workload or self.workload).forward(model, integers=integers))

    def _put(self, rounded: RoundedPlan, path: Path) -> None:
        """Write a file and verify what stands there."""
        model = emit(self.workload.classifier, rounded, self.profile, self.ranges)
        data, classifier = model.SerializeToString(deterministic=True), self.workload.classifier
        check_model_size(len(data), max(classifier.source_bytes, 4 * classifier.parameters))
        path.write_bytes(data)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in self.verified:
            verify(path, self.workload, rounded, self.ranges)
            self.verified.add(digest)


def refuse_loss(result: CompressResult | ApplyResult, *, allowed: bool) -> None:
    """Stop where the verdict fails, so that no file appears.

    Args:
        result: What would be given; its verdict counts.
        allowed: Whether the file is wanted nevertheless.

    Raises:
        LossError: With what to do instead.
    """
    claim, report = result.verdict, result.report
    if allowed or claim is None or report is None or not claim.fails:
        return
    instead = f"try {result.next_command}, " if result.next_command else ""
    raise LossError(
        f"{wording.verdict(claim, report)}: nothing was written to {result.output}; {instead}"
        "give other images, or write it nevertheless with `allow_loss`",
        result,
    )
