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


class OnnxSemiError(Exception):
    """Base of every error that a user can cause and can mend."""


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


def first_line(error: Exception) -> str:
    """The first line of an exception's message, short enough for a terminal."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
