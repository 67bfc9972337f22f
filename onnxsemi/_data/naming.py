"""Names of classes and labels of image files, from the text files that users keep them in.

``names.txt`` has one class a line, in the order of the model's outputs. ``labels.csv`` has the
columns ``file`` (relative to the folder of images) and ``label``: the name of a class where names
are given, else its number.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from onnxsemi._errors import DataError
from onnxsemi._reading import bytes_of, reading


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of the model's classes, in its order: one a line, the last line may be empty.

    Raises:
        DataError: If the file cannot be read, or holds no names.
    """
    names = tuple(line.strip() for line in _text(path, "`classes`").rstrip().splitlines())
    if not names:
        raise DataError(f"`classes`: {path} is empty; it needs one class name a line")
    check_class_names(names)
    return names


def check_class_names(names: Sequence[str]) -> None:
    """Refuse names that do not tell one class from another.

    Raises:
        DataError: With the first that is empty or there twice.
    """
    known: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name:
            raise DataError(f"`classes`: class {number} has no name: one a line, no empty lines")
        if name in known:
            raise DataError(f"`classes`: {name!r} is class {known[name]} and class {number}")
        known[name] = number


def read_labels(
    path: str | os.PathLike[str], folder: Path, names: Sequence[str] | None
) -> dict[Path, int]:
    """Image file -> its label, in the order of the files' names.

    Args:
        path: The table.
        folder: What its files are relative to.
        names: Names of the classes, if there are any.

    Raises:
        DataError: With the first line that cannot be used.
    """
    rows = csv.DictReader(_text(path, "`labels`").splitlines())
    columns = list(rows.fieldnames or ())
    if not {"file", "label"} <= set(columns):
        raise DataError(f"{path}: needs the columns file,label in its first line; it has {columns}")
    numbers = {name: number for number, name in enumerate(names or ())}
    labels: dict[Path, int] = {}
    for line, row in enumerate(rows, start=2):
        file, label = folder / (row["file"] or "").strip(), (row["label"] or "").strip()
        if not file.is_file():
            raise DataError(f"{path}: line {line}: there is no image {file}")
        if file in labels:
            raise DataError(f"{path}: line {line}: {file.name} has a label already")
        labels[file] = _number(label, numbers, f"{path}: line {line}")
    if not labels:
        raise DataError(f"{path}: has no labels")
    return dict(sorted(labels.items()))


def _number(label: str, numbers: dict[str, int], where: str) -> int:
    if label in numbers:
        return numbers[label]
    if label.isdecimal() and not numbers:
        return int(label)
    remedy = "is none of the `classes`" if numbers else "is no number: give `classes` names.txt"
    raise DataError(f"{where}: label {label!r} {remedy}")


def _text(path: str | os.PathLike[str], flag: str) -> str:
    try:
        data = bytes_of(Path(path), DataError)
    except DataError as error:
        raise DataError(f"{flag}: {error}") from None
    with reading(DataError, f"{flag}: {path} is no text in UTF-8"):
        return data.decode("utf-8-sig")
