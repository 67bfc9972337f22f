"""How large what is written can be, whatever was read: what would be larger is refused unwritten.

A model is at most ``MODEL_TIMES`` the float model and ``MODEL_MORE``: layers of thousands of
weights are a quarter of it and less, and only thousands of layers of a few channels each, in many
bitwidths each, or names without end, come near. Any text, be it a plan, a page, a document or a
file of a run, is no larger than the largest that is read (``MOST_TEXT``).
"""

from pathlib import Path

from onnxsemi._errors import OutputError, PlanError
from onnxsemi._reading import MOST_TEXT

MODEL_TIMES = 2
MODEL_MORE = 2**20  # bytes


def check_model_size(size: int, float_model: int) -> None:
    """Refuse a model that would be larger than any is to be.

    Args:
        size: Its bytes.
        float_model: Bytes of the float model: of its file or of its values, whichever are more.

    Raises:
        PlanError: With both.
    """
    most = MODEL_TIMES * float_model + MODEL_MORE
    if size > most:
        raise PlanError(
            f"the written model would have {size:,} bytes, more than {MODEL_TIMES} times the "
            f"float model and {MODEL_MORE // 2**20} MiB ({most:,}): choose another profile, fewer "
            "`bits`, or a model with shorter names"
        )


def written_text(text: str | bytes, what: object) -> bytes:
    """A text as the bytes that are written of it, in UTF-8.

    Args:
        text: All of it.
        what: Which it is: the path, mostly.

    Raises:
        OutputError: If it has more bytes than any text is to have.
    """
    data = text.encode() if isinstance(text, str) else text
    if len(data) > MOST_TEXT:
        have, most = len(data) // 2**20, MOST_TEXT // 2**20
        raise OutputError(
            f"{what}: would have {have:,} MiB, and is written with at most {most}: "
            "`exclude` layers, or give a model with shorter names"
        )
    return data


def write_text(path: Path, text: str | bytes, output: Path) -> None:
    """Write a text that :func:`written_text` takes.

    Args:
        path: Where to for now.
        text: All of it.
        output: Where it will be, for the message.

    Raises:
        OutputError: If it has more bytes than any text is to have.
    """
    path.write_bytes(written_text(text, output))
