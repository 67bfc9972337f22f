"""Everything a user can set, with its defaults: a dataclass a command."""

from onnxsemi.settings.compress import FEWEST_DEALT, Method, Pin, Settings
from onnxsemi.settings.measure import BenchSettings, EvaluateSettings
from onnxsemi.settings.run import RunOptions
from onnxsemi.settings.write import ApplySettings

__all__ = [
    "FEWEST_DEALT",
    "ApplySettings",
    "BenchSettings",
    "EvaluateSettings",
    "Method",
    "Pin",
    "RunOptions",
    "Settings",
]
