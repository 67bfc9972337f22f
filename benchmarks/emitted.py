"""Emitted files of a model in every profile, with plans of three and of five bitwidths."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import Case

import onnxsemi
from onnxsemi import (
    ApplyResult,
    BitPlan,
    Calibration,
    Profile,
    ReadOptions,
    Scheme,
    TargetPolicy,
    __version__,
    load_images,
)
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.reader import read_model
from onnxsemi._pipeline.activations import calibrate
from onnxsemi._pipeline.preparation import drawn
from onnxsemi._run.plan_file import PlanFile, layers_of

CALIBRATED = 64  # images
LADDERS = {"one": (4,), "three": (8, 6, 4), "five": (8, 6, 4, 3, 2)}


@dataclass(frozen=True)
class Form:
    """A profile with its block of channels."""

    profile: Profile
    align: int = 1

    @property
    def name(self) -> str:
        """As tables and files name it."""
        return self.profile if self.align == 1 else f"{self.profile}-{self.align}"

    @property
    def scheme(self) -> Scheme:
        """Symmetric where the profile asks for it, else the default."""
        return Scheme.SYMMETRIC if self.profile.quantizes_activations else Scheme.ASYMMETRIC


FORMS = [*map(Form, Profile), Form(Profile.NODES, align=16)]


def random_plan(classifier: Classifier, ladder: tuple[int, ...]) -> BitPlan:
    """Every channel at a bitwidth drawn from the ladder: the channels lie in no order."""
    random = np.random.default_rng(0)
    bits = {
        layer.name: tuple(random.choice(ladder, layer.channels).tolist())
        for layer in classifier.layers
    }
    return BitPlan(bits, {layer.name: layer.channel_params for layer in classifier.layers})


def plan_of(
    case: Case, ladder: str, form: Form, targets: TargetPolicy = TargetPolicy.HIDDEN
) -> PlanFile:
    """A random plan, with calibrated activations where the profile quantizes them."""
    classifier = read_model(case.model, ReadOptions(targets=targets))
    image, ranges = classifier.ends.image, None
    if form.profile.quantizes_activations:
        images = load_images(case.search, image.name, image.shape, case.data)
        ranges = calibrate(classifier, drawn(images, CALIBRATED), Calibration.MINMAX)
    return PlanFile(
        model=classifier.fingerprint,
        targets=targets.value,
        scheme=form.scheme.value,
        layers=layers_of(random_plan(classifier, LADDERS[ladder]).bits),
        tool=f"onnxsemi {__version__}",
        activations=ranges,
    )


def write(case: Case, plan: PlanFile, form: Form, output: Path) -> ApplyResult:
    """Write a plan with ``apply``, verified."""
    plan_file = output.with_suffix(".plan.json")
    plan_file.write_text(plan.to_json(), encoding="utf-8")
    settings = onnxsemi.ApplySettings(profile=form.profile, align=form.align)
    return onnxsemi.apply(plan_file, case.model, output=output, settings=settings)
