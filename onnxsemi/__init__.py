"""onnxsemi: make a trained ONNX classifier much smaller, without losing accuracy or retraining.

>>> import onnxsemi
>>> onnxsemi.Settings().search.bits
(8, 6, 4)
"""

from onnxsemi import __about__
from onnxsemi.bitwidth import ladder
from onnxsemi.calibration import Calibration
from onnxsemi.data.images import ImageSet, Normalization
from onnxsemi.data.load import DataOptions, Preset, load_images
from onnxsemi.emit.profile import Profile
from onnxsemi.errors import (
    AccuracyError,
    BudgetError,
    DataError,
    ModelError,
    OnnxSemiError,
    OutputError,
    PlanError,
    RunError,
    SettingsError,
    VerificationError,
)
from onnxsemi.measure.paired import Paired
from onnxsemi.model.read import ReadOptions
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.pipeline import apply, bench, compress, evaluate, inspect
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Progress
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.results import ApplyResult, BenchResult, CompressResult, EvaluateResult, InspectResult
from onnxsemi.runtime import load_session
from onnxsemi.search.ranking import Order
from onnxsemi.search.run import SearchSettings
from onnxsemi.search.semilayers import Split
from onnxsemi.settings import Method, Pin, RunOptions, Settings

__version__ = __about__.VERSION

__all__ = [
    "AccuracyError",
    "ApplyResult",
    "BenchResult",
    "BitPlan",
    "BudgetError",
    "Calibration",
    "CompressResult",
    "DataError",
    "DataOptions",
    "EvaluateResult",
    "ImageSet",
    "InspectResult",
    "Method",
    "ModelError",
    "Normalization",
    "OnnxSemiError",
    "Order",
    "OutputError",
    "Paired",
    "Pin",
    "PlanError",
    "Preset",
    "Profile",
    "Progress",
    "ReadOptions",
    "RunError",
    "RunOptions",
    "Scheme",
    "SearchSettings",
    "Settings",
    "SettingsError",
    "Split",
    "TargetPolicy",
    "VerificationError",
    "__version__",
    "apply",
    "bench",
    "compress",
    "evaluate",
    "inspect",
    "ladder",
    "load_images",
    "load_session",
]
