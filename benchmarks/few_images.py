"""What few images allow: how well the KL of channels is known, and what plans and rounding do.

    python benchmarks/few_images.py --shared ../shared
    python benchmarks/few_images.py --shared ../shared --models resnet20

The calibration images of a model are dealt out: weights are rounded on some, Δloss is measured on
others, and *others* yet are those that everything here is judged by. All layers are rounded for the
float model's inputs, so that a plan costs one forward pass.

*Estimators.* The KL of every channel quantized alone, from the gradients that stand for the Fisher
matrix (:mod:`onnxsemi._stats.cotangents`): of one label drawn from the softmax of an image; of one
factor of random signs over all classes; of the seven most probable classes exactly and the others
with random signs, as the package does. The relative error is the standard deviation over ``DRAWS``
draws, that of the *sample* the standard error of the mean over images; both over the mean of all
draws. Shown is the median over the channels, and what nine in ten are below.

*Plans* of equal size from KL increases that were measured on other images than weights were
rounded on, or on the same ones, and taken as they are (*raw*), as the mean of the layer, or drawn
to what rounding errors say (:mod:`onnxsemi._sensitivity.reliability`, the default).

*Rounding* with the damping of GPTQ, 0.01 of the mean diagonal, and with as much as blocks of images
contradict each other (:mod:`onnxsemi._rounding.shrinkage`, the default).

*EfficientNet-Lite0 of 100 classes* is every tenth row of its classifier: the softmax is of those
classes, whatever the images show.

Every part of a model is kept as a line of ``benchmarks/few_images.jsonl``; what is there is not
measured again: delete its line to make it anew. At the end the tables in ``benchmarks/README.md``
are written anew.
"""

import argparse
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from cases import Case, data_of, real
from few_images_table import keep_row, read_rows, write_all
from fisher_estimators import ESTIMATORS, SIGNED, Estimates, estimates
from onnx import numpy_helper

from onnxsemi import RoundingSettings
from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._data.load import load_images
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounding_errors
from onnxsemi._quantizer.settings import Inputs
from onnxsemi._rounding import shrinkage
from onnxsemi._rounding.float_inputs import rounding_table
from onnxsemi._rounding.sequential import from_table
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._runtime.runner import worker_threads
from onnxsemi._search.frontier import frontier, merged_groups, monotone, predicted
from onnxsemi._search.frontier_course import even
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.reliability import dependable
from onnxsemi._stats.metrics import kl_divergence

BITS = (8, 7, 6, 5, 4, 3, 2, 1)
PLAN_BITS = (6, 5, 4, 3)
ROUNDED_BITS = (4, 3, 2)
FLOAT_INPUTS = RoundingSettings(inputs=Inputs.FLOAT)
HALF = 4
"""The bitwidth that errors of estimators are shown at."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How the calibration images are dealt out.

    Attributes:
        rounded: To round weights on.
        measured: To measure Δloss on.
        others: To judge by.
        fewer: Numbers of images to compare ways of rounding with.
        every: Of the classes one in so many.
    """

    rounded: int
    measured: int
    others: int
    fewer: tuple[int, ...]
    every: int = 1


COUNTS = {
    "resnet20": Counts(rounded=1000, measured=512, others=1000, fewer=(100, 1000)),
    "efficientnet_100": Counts(rounded=250, measured=125, others=125, fewer=(), every=10),
    "efficientnet": Counts(rounded=250, measured=125, others=125, fewer=(250,)),
}


def main() -> None:
    """Measure what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--models", nargs="*", choices=list(COUNTS), default=list(COUNTS))
    arguments = parser.parse_args()
    cases = real(arguments.shared)
    hundred = replace(cases["efficientnet"], title="ImageNet EfficientNet-Lite0, 100 classes")
    cases["efficientnet_100"] = hundred
    for name in arguments.models:
        study = Study(cases[name], COUNTS[name])
        for part, measure in study.parts().items():
            if part not in read_rows(name):
                print(f"{name}: {part}", flush=True)
                keep_row(name, part, measure())
    write_all({cases[name].title: read_rows(name) for name in COUNTS})


@dataclass(frozen=True)
class _Judge:
    """Images that plans are compared with the float model on."""

    workload: Workload

    @cached_property
    def _reference(self) -> Float32Array:
        return self.workload.forward(self.workload.classifier.proto)

    def kl(self, table: RoundingTable, plan: BitPlan) -> float:
        """KL of a plan as it stands in a table, nats per image."""
        classifier = self.workload.classifier
        model = simulate(classifier, from_table(classifier, table, plan))
        return float(np.mean(kl_divergence(self._reference, self.workload.forward(model))))


@dataclass(frozen=True)
class Study:
    """A model and its images, dealt out.

    Attributes:
        case: Model and images.
        counts: How many for what.
    """

    case: Case
    counts: Counts

    def parts(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Everything that is measured, by name."""
        rounding = {
            f"rounding {count}": lambda count=count: self._rounding(count)
            for count in self.counts.fewer
        }
        return {"estimators": self._errors, "plans": self._plans, **rounding}

    @cached_property
    def _all(self) -> Workload:
        """The model on all calibration images."""
        classifier = read_model(_of_classes(self.case.model, self.counts.every), ReadOptions())
        image, options = classifier.ends.image, self.case.data
        images = load_images(data_of(self.case.search, options), image.name, image.shape, options)
        workload = Workload(classifier, images, Nearest(Scheme.ASYMMETRIC), worker_threads(None))
        if self.counts.every == 1:
            return workload
        # the labels are of all classes: its own answers take their place
        answers = workload.forward(classifier.proto).argmax(axis=1)
        return replace(workload, images=replace(images, labels=answers))

    def _workload(self, start: int, count: int) -> Workload:
        """The model on so many of the images, in an order that was drawn once."""
        order = np.random.default_rng(0).permutation(len(self._all.images))
        chosen = np.sort(order[start : start + count])
        return replace(self._all, images=self._all.images.select(chosen))

    @cached_property
    def _rounded(self) -> Workload:
        return self._workload(0, self.counts.rounded)

    @cached_property
    def _measured(self) -> Workload:
        workload = self._workload(self.counts.rounded, self.counts.measured)
        return replace(workload, rounding=self._table)

    @cached_property
    def _others(self) -> "_Judge":
        start = self.counts.rounded + self.counts.measured
        return _Judge(self._workload(start, self.counts.others))

    @cached_property
    def _table(self) -> RoundingTable:
        return _table(self._rounded, BITS)

    @cached_property
    def _estimates(self) -> Mapping[str, Estimates]:
        return estimates(self._measured, BITS)

    def _errors(self) -> dict[str, Any]:
        """Relative errors of the estimators, and of the sample of images."""
        column, found = BITS.index(HALF), self._estimates.values()
        errors = {
            kind: np.concatenate([one.relative_errors(kind)[:, column] for one in found])
            for kind in ESTIMATORS
        }
        errors["sample"] = np.concatenate([one.sampling_errors()[:, column] for one in found])
        return {
            "images": len(self._measured.images),
            "bits": HALF,
            **{kind: [float(np.quantile(e, q)) for q in (0.5, 0.9)] for kind, e in errors.items()},
        }

    def _plans(self) -> dict[str, Any]:
        """KL of plans of equal size, by what they were drawn from."""
        kl_increases = self._kl_increases()
        uniform = [BitPlan.uniform(self._layers, bits) for bits in PLAN_BITS]
        rows = {"one bitwidth for all": self._row(uniform, kl_increases[f"{SIGNED}, raw"])}
        rows |= {
            name: self._row(self._frontier(kl_increase), kl_increase)
            for name, kl_increase in kl_increases.items()
        }
        return {"bits": PLAN_BITS, "rows": rows}

    def _row(self, plans: list[BitPlan], kl_increase: DeltaLossTable) -> list[dict[str, float]]:
        return [
            {"kl": self._others.kl(self._table, plan), "predicted": predicted(plan, kl_increase)}
            for plan in plans
        ]

    def _kl_increases(self) -> dict[str, DeltaLossTable]:
        found = {}
        for kind in ESTIMATORS:
            folds = {name: one.folds(kind) for name, one in self._estimates.items()}
            found[f"{kind}, raw"] = self._raw(folds)
            found[f"{kind}, drawn to rounding errors"] = self._drawn(folds)
        found[f"{SIGNED}, means of layers"] = even(found[f"{SIGNED}, raw"])
        own = self._own_folds
        found[f"{SIGNED}, raw, of the images rounded on"] = self._raw(own)
        found[f"{SIGNED}, drawn, of the images rounded on"] = self._drawn(own)
        return found

    @cached_property
    def _own_folds(self) -> Mapping[str, Float64Array]:
        """The KL of channels on as many of the images that weights were rounded on."""
        workload = replace(self._rounded.first(self.counts.measured), rounding=self._table)
        measurement = FastMeasurement(
            workload, [layer.name for layer in self._layers], BITS, seed=0
        )
        return measurement.measure(Silent(), lambda: None).kl_increase_folds()

    def _raw(self, folds: Mapping[str, Float64Array]) -> DeltaLossTable:
        nats = {name: values.mean(axis=0) for name, values in folds.items()}
        return DeltaLossTable(BITS, monotone(nats), self.counts.measured)

    def _drawn(self, folds: Mapping[str, Float64Array]) -> DeltaLossTable:
        nats = {
            layer.name: dependable(
                folds[layer.name],
                rounding_errors(layer, BITS, self._table),
                self.counts.measured,
            ).nats
            for layer in self._layers
        }
        return DeltaLossTable(BITS, monotone(nats), self.counts.measured)

    @property
    def _layers(self) -> Any:
        return self._all.classifier.layers

    def _frontier(self, kl_increase: DeltaLossTable) -> list[BitPlan]:
        """The largest plans of the frontier with at most so many bits a weight."""
        names = [layer.name for layer in self._layers]
        path = frontier(BitPlan.uniform(self._layers), kl_increase, names)

        def at(count: int) -> BitPlan:
            return merged_groups(path.plan(count), names)

        counts = range(len(path))
        places = [bisect_left(counts, -b, key=lambda n: -at(n).mean_bits) for b in PLAN_BITS]
        return [at(place) for place in places]

    def _rounding(self, count: int) -> dict[str, Any]:
        """KL of one bitwidth for all, on the images rounded on and on the others."""
        workload, rows = self._workload(0, count), {}
        own = _Judge(workload)
        with patch.object(shrinkage, "MOST_SHRUNK", 0.0):  # leaves GPTQ's damping
            plain = _table(workload, ROUNDED_BITS)
        for name, table in (("0.01", plain), ("shrunk", _table(workload, ROUNDED_BITS))):
            plans = [BitPlan.uniform(self._layers, bits) for bits in ROUNDED_BITS]
            rows[name] = [
                {"own": own.kl(table, plan), "others": self._others.kl(table, plan)}
                for plan in plans
            ]
        return {"bits": ROUNDED_BITS, "rows": rows}


def _of_classes(path: Path, every: int) -> onnx.ModelProto:
    """A model whose classifier is a Gemm, with one in so many of its classes."""
    model = onnx.load(path)
    classes = model.graph.output[0].type.tensor_type.shape.dim[-1]
    rows = slice(None, None, every)
    for tensor in model.graph.initializer:
        if tensor.name in model.graph.node[-1].input and tensor.dims[0] == classes.dim_value:
            chosen = np.ascontiguousarray(numpy_helper.to_array(tensor)[rows])
            tensor.CopyFrom(numpy_helper.from_array(chosen, tensor.name))
    classes.dim_value = len(range(classes.dim_value)[rows])
    return model


def _table(workload: Workload, bits: tuple[int, ...]) -> RoundingTable:
    return rounding_table(workload, bits, FLOAT_INPUTS, 0, Silent())


if __name__ == "__main__":
    main()
