"""Everything a user can set, with its defaults: a dataclass a command."""

from onnxsemi._settings.compress import FEWEST_DEALT, Method, Pin, Settings
from onnxsemi._settings.measure import BenchSettings, EvaluateSettings
from onnxsemi._settings.run import RunOptions
from onnxsemi._settings.write import ApplySettings

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
