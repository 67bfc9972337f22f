"""What can go wrong for a reason that lies in the user's model, data, plan or settings.

    OnnxSemiError
    ├── SettingsError       a flag or a keyword outside its range
    ├── ModelError          a file that is no usable ONNX classifier
    ├── DataError           images or labels that cannot be used
    ├── PlanError           a bit plan that does not fit the model
    ├── AccuracyError       nothing could be quantized within the allowed drop
    │   └── NothingHoldsError   the same, with everything that was measured
    ├── LossError           images that the search never saw show a loss: no file was written
    ├── BudgetError         the time budget ended before anything could be given
    ├── RunError            a run folder that cannot be used, or was made of something else
    ├── OutputError         a result that cannot be written
    └── VerificationError   the written file is not what was measured

Each message is one line that says what was found, where, and what to do about it. Settings are
named as in Python, between backquotes: `max_drop`; the command line makes ``--max-drop`` of that.
A mistake of the programmer raises ``ValueError`` or ``TypeError`` instead.
"""

import re

from onnxsemi._visible import shown_line

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE = re.compile(r"\S+\.(?:cc|cpp|h|hpp):\d+:? ?")
_LONGEST = 300


class OnnxSemiError(Exception):
    """Base of every error that a user can cause and can mend."""

    def __str__(self) -> str:
        """The message, as :mod:`onnxsemi._visible` shows what comes from files."""
        return shown_line(super().__str__())


class SettingsError(OnnxSemiError):
    """A setting is outside its range or contradicts another."""


class ModelError(OnnxSemiError):
    """The model file cannot be read, or is refused with a reason."""


class DataError(OnnxSemiError):
    """The images or labels cannot be read, or do not fit the model."""


class PlanError(OnnxSemiError):
    """The bit plan cannot be read, or does not fit the model."""


class AccuracyError(OnnxSemiError):
    """No compression was found that keeps the accuracy asked for.

    Where plans were measured it is a :class:`~onnxsemi.NothingHoldsError`, which has the best of
    them.
    """


class BudgetError(OnnxSemiError):
    """The time budget ended before there was anything to give."""


class RunError(OnnxSemiError):
    """The run folder cannot be used, or was made of something else."""


class OutputError(OnnxSemiError):
    """The result cannot be written where it was asked for."""


class VerificationError(OnnxSemiError):
    """The written file differs from the model that was measured."""


def one_line(error: Exception) -> str:
    r"""An exception's message on one line that a terminal holds, its cause at the end.

    Codes and places in the source of ONNX Runtime and onnx are left away, and so is the middle of
    what is too long.

    >>> one_line(RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : No Conv(22)\n 'a'"))
    "No Conv(22); 'a'"
    """
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    text = _CODE.sub("", "; ".join(filter(None, lines))) or type(error).__name__
    return shown_line(_PLACE.sub("", text), _LONGEST)
