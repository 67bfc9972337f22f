"""onnxsemi: make a trained ONNX classifier much smaller, without losing accuracy or retraining.

>>> import onnxsemi
>>> onnxsemi.Settings().search.bits
(8, 7, 6, 5, 4, 3, 2, 1)
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
from onnxsemi.listening import Event
from onnxsemi.measure.comparison import Comparison
from onnxsemi.measure.means import Means
from onnxsemi.measure.paired import Paired
from onnxsemi.model.read import ReadOptions
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.outlook import CheckResult
from onnxsemi.pipeline import apply, bench, check, compare, compress, evaluate, inspect, pareto
from onnxsemi.plan import BitPlan
from onnxsemi.points.frontier import KeptFrontier, KeptPoint
from onnxsemi.points.nothing_holds import NothingHoldsError
from onnxsemi.progress import Progress
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.results import (
    ApplyResult,
    CompareResult,
    CompressResult,
    EvaluateResult,
    InspectResult,
    LossError,
)
from onnxsemi.rounding.ranges import Ranges
from onnxsemi.rounding.settings import Inputs, RoundingMethod, RoundingSettings
from onnxsemi.runtime import load_session
from onnxsemi.search.guard import Guarantee
from onnxsemi.search.ranking import Order
from onnxsemi.search.semilayers import Split
from onnxsemi.search.settings import SearchMethod, SearchSettings
from onnxsemi.search.verdict import Outcome, Verdict
from onnxsemi.settings import (
    ApplySettings,
    BenchSettings,
    EvaluateSettings,
    Method,
    Pin,
    RunOptions,
    Settings,
)
from onnxsemi.timings import BenchResult

__version__ = __about__.VERSION

__all__ = [
    "AccuracyError",
    "ApplyResult",
    "ApplySettings",
    "BenchResult",
    "BenchSettings",
    "BitPlan",
    "BudgetError",
    "Calibration",
    "CheckResult",
    "CompareResult",
    "Comparison",
    "CompressResult",
    "DataError",
    "DataOptions",
    "EvaluateResult",
    "EvaluateSettings",
    "Event",
    "Guarantee",
    "ImageSet",
    "Inputs",
    "InspectResult",
    "KeptFrontier",
    "KeptPoint",
    "LossError",
    "Means",
    "Method",
    "ModelError",
    "Normalization",
    "NothingHoldsError",
    "OnnxSemiError",
    "Order",
    "Outcome",
    "OutputError",
    "Paired",
    "Pin",
    "PlanError",
    "Preset",
    "Profile",
    "Progress",
    "Ranges",
    "ReadOptions",
    "RoundingMethod",
    "RoundingSettings",
    "RunError",
    "RunOptions",
    "Scheme",
    "SearchMethod",
    "SearchSettings",
    "Settings",
    "SettingsError",
    "Split",
    "TargetPolicy",
    "Verdict",
    "VerificationError",
    "__version__",
    "apply",
    "bench",
    "check",
    "compare",
    "compress",
    "evaluate",
    "inspect",
    "ladder",
    "load_images",
    "load_session",
    "pareto",
]
