"""onnxsemi: make a trained ONNX classifier much smaller, without losing accuracy or retraining.

>>> import onnxsemi
>>> onnxsemi.Settings().search.bits
(8, 7, 6, 5, 4, 3, 2, 1)
"""

from onnxsemi import __about__
from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.load import DataOptions, Preset, load_images
from onnxsemi._emit.deployment import Target
from onnxsemi._emit.profile import Profile
from onnxsemi._errors import (
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
from onnxsemi._model.reader import ReadOptions
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._pipeline import (
    apply,
    bench,
    check,
    compare,
    compress,
    evaluate,
    inspect,
    pareto,
    verify,
)
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import ladder
from onnxsemi._progress import Progress
from onnxsemi._progress_callback import Event
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.settings import Inputs, Ranges, RoundingMethod, RoundingSettings
from onnxsemi._results.check import CheckResult
from onnxsemi._results.results import (
    ApplyResult,
    CompareResult,
    CompressResult,
    EvaluateResult,
    InspectResult,
    LossError,
)
from onnxsemi._results.timings import BenchResult
from onnxsemi._results.verify import VerifyResult
from onnxsemi._run.frontier import KeptFrontier, KeptPoint
from onnxsemi._run.nothing_holds import NothingHoldsError
from onnxsemi._runtime.calibration import Calibration
from onnxsemi._runtime.sessions import load_session
from onnxsemi._search.effort import Effort
from onnxsemi._search.guard import Guarantee
from onnxsemi._search.ranking import Order
from onnxsemi._search.semilayers import Split
from onnxsemi._search.settings import SearchMethod, SearchSettings
from onnxsemi._search.verdict import Outcome, Verdict
from onnxsemi._settings import (
    ApplySettings,
    BenchSettings,
    EvaluateSettings,
    Method,
    Pin,
    RunOptions,
    Settings,
)
from onnxsemi._stats.comparison import Comparison
from onnxsemi._stats.means import Means
from onnxsemi._stats.paired import Paired

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
    "Effort",
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
    "Target",
    "TargetPolicy",
    "Verdict",
    "VerificationError",
    "VerifyResult",
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
    "verify",
]
