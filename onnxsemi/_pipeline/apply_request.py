"""What ``apply`` is asked to write: a plan file, or a point of a run."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from onnxsemi._data.load import Data, DataOptions
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.storage.native import OPSETS
from onnxsemi._errors import ModelError, PlanError, SettingsError
from onnxsemi._model.loader import Model
from onnxsemi._reading import is_there
from onnxsemi._run.frontier import KeptFrontier, KeptPoint
from onnxsemi._run.frontier_file import read_frontier
from onnxsemi._run.plan_file import PlanFile, read_plan
from onnxsemi._run.point_choice import At
from onnxsemi._settings import ApplySettings


@dataclass(frozen=True, kw_only=True, eq=False)
class ApplyRequest:
    """What is to be written, and what that takes.

    Attributes:
        document: The plan.
        name: Where it came from.
        model: The float model.
        images: Images that weights are rounded on; None if it is not known which.
        options: Preprocessing of images.
        table: The run's rounding table, if it is there.
        kept: The run that the plan is a point of; None for a plan file.
        point: That point.
        anew: Whether weights are rounded otherwise than the plan says, as the profile needs it.
    """

    document: PlanFile
    name: str
    model: Model
    images: Data | None
    options: DataOptions
    table: Path | None = None
    kept: KeptFrontier | None = None
    point: KeptPoint | None = None
    anew: bool = False

    def for_profile(self, profile: Profile) -> "ApplyRequest":
        """With weights of 2 and 4 bits on grids that the profile can store in so many bits.

        ONNX's own types have no half steps: the weights are rounded anew, on whole ones, and what
        the run keeps of its own rounding is of no use.
        """
        record = self.document.rounding
        bits = {each for channels in self.document.bits.values() for each in channels}
        if not profile.has_narrow_types or not bits & OPSETS.keys():
            return self
        if record is None or not record.half_steps:
            return self
        whole = structs.replace(record, half_steps=False)
        document = structs.replace(self.document, rounding=whole, weights_sha256=None)
        return replace(self, document=document, table=None, anew=True)


def apply_request(
    plan: str | os.PathLike[str],
    model: Model | None,
    images: Data | None,
    settings: ApplySettings,
) -> ApplyRequest:
    """Read what is asked for.

    Args:
        plan: A plan file, or the folder of a run.
        model: The float model; None for the run's own.
        images: Images that weights are rounded on; None for the run's own.
        settings: Which point of a run, and for which profile; and the images' preprocessing: for a
            run its own unless one is given.

    Raises:
        OnnxSemiError: If plan, run or model cannot be read, or no point is meant.
    """
    path, options = Path(plan), settings.data
    if not is_there(path):
        raise PlanError(f"{path}: there is no such plan, and no such folder of a run")
    if not path.is_dir():
        if settings.at is not None:
            raise SettingsError(f"`at`: is for the folder of a run, NAME.run; {path} is none")
        if model is None:
            raise SettingsError(f"{path}: name the float model that the plan was made for too")
        document = read_plan(path)
        asked = ApplyRequest(
            document=document, name=str(path), model=model, images=images, options=options
        )
        return asked.for_profile(settings.profile)
    kept = read_frontier(path)
    point = _chosen(kept, path) if settings.at is None else At.parse(settings.at).pick(kept)
    source, table = kept.source, path / "rounding.npz"
    if model is None:
        model = _own_model(source.model, path)
    rounded = kept.document.rounding is not None
    own = source.data if rounded and source.data is not None and is_there(source.data) else None
    asked = ApplyRequest(
        document=kept.document.with_plan(point.plan, kept.document.weights_of(point.plan)),
        name=str(path),
        model=model,
        images=own if images is None else images,
        options=source.options if options == DataOptions() else options,
        table=table if table.exists() else None,
        kept=kept,
        point=point,
    )
    return asked.for_profile(settings.profile)


def _own_model(model: Path | None, run: Path) -> Path:
    if model is None:
        raise ModelError(f"{run}: the run's model was in memory: give it, too")
    if not is_there(model):
        raise ModelError(f"{model}: the run's model is not there any more: give it as `model`")
    return model


def _chosen(kept: KeptFrontier, run: Path) -> KeptPoint:
    if kept.chosen is None:
        raise SettingsError(
            f"{run}: nothing held what was asked of the run, so that it has chosen no point: say "
            f"which one with `at`, such as {100 * kept.first.plan.compression:.2f}% for the best "
            "measured; 'pareto' lists them"
        )
    return kept.chosen
