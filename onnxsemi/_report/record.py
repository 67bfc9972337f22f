"""What a run came to, kept in its folder: everything that a report of it shows.

result.json     the whole result; files are named from the folder that the command was given in,
                also where their whole paths were typed
evidence.npz    the arrays behind it; in place of the run it says which result it belongs to

Channels are in the order of the plan: of one layer after the other. What was not measured is NaN.
"""

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from msgspec.structs import replace

from onnxsemi._arrays import Float64Array, Int64Array, UInt8Array
from onnxsemi._errors import RunError
from onnxsemi._reading import bytes_of, reading
from onnxsemi._report.document import RunResult
from onnxsemi._run.folder import EVIDENCE, RESULT, RunFolder, made_of, nothing_held
from onnxsemi._run.store import read, read_arrays, write, write_arrays

_REMEDY = "the command that made the run, with `resume`, writes it again"


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultArrays:
    """The arrays behind a result.

    Attributes:
        bits: int64[B], the ladder, widest first.
        delta_loss: float64[C, B], Δloss of each channel quantized alone, nats per sample.
        group_layer: int64[S], place of each semilayer's layer in the plan.
        group_sign: int64[S], -1 where its Δloss is <= 0, 1 where it is > 0, 0 for a whole layer.
        group_bits: int64[S], its bitwidth.
        group_channels: int64[S], how many channels it has.
        group_delta_loss: float64[S], its channels' Δloss, added up, nats per sample.
        group_kl: float64[S], KL with the semilayer quantized alone, nats per sample.
        tried: float64[T], the paper's compression ratio of the plan of each trial.
        labels: int64[N], what counts as right on each test image.
        before: int64[N], answer of the float model.
        after: int64[N], answer of the written file.
        shown: int64[M], test images whose answer changed and that are kept as thumbnails.
        thumbnails: uint8[M, H, W, 1 or 3], those images; M is 0 if they are no pictures.
    """

    bits: Int64Array
    delta_loss: Float64Array
    group_layer: Int64Array
    group_sign: Int64Array
    group_bits: Int64Array
    group_channels: Int64Array
    group_delta_loss: Float64Array
    group_kl: Float64Array
    tried: Float64Array
    labels: Int64Array
    before: Int64Array
    after: Int64Array
    shown: Int64Array
    thumbnails: UInt8Array


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run's result, read back.

    Attributes:
        document: The result, as ``compress --json`` gives it, with files named from the folder that
            the command was given in, and what was given.
        evidence: The arrays behind it.
    """

    document: RunResult
    evidence: ResultArrays


def keep_result(run: RunFolder, document: RunResult, evidence: ResultArrays) -> None:
    """Write a result into the run's folder; nothing if the run keeps nothing."""
    arrays, result = run.file(EVIDENCE), run.file(RESULT)
    if arrays is None or result is None:
        return
    write(result, _from_here(document), run.made_of.judged_digest)
    named = {item.name: getattr(evidence, item.name) for item in fields(ResultArrays)}
    write_arrays(arrays, named, _digest(result))


def read_result(folder: Path) -> RunRecord:
    """Read what :func:`keep_result` wrote; the run is named as the folder is here.

    Raises:
        RunError: If the folder holds no result, or not what was written.
    """
    run = made_of(folder).judged_digest
    if nothing_held(folder):
        raise RunError(
            f"{folder}: nothing held what was asked of the run, so that there is no result to "
            "report: 'pareto' lists what was measured, 'apply --at' writes it, and the command "
            "that made it, with `resume` and a larger `max_drop`, gives a result"
        )
    if not (folder / RESULT).is_file():
        raise RunError(
            f"{folder}: the run has no result yet; the command that began it, with `resume`, "
            "brings it to an end"
        )
    document = read(folder / RESULT, RunResult, run, _REMEDY)
    arrays = read_arrays(folder / EVIDENCE, _digest(folder / RESULT), _REMEDY)
    with reading(RunError, f"{folder / EVIDENCE}: is of another version", _REMEDY):
        return RunRecord(replace(document, run=str(folder)), ResultArrays(**arrays))


def _from_here(document: RunResult) -> RunResult:
    """The document with the files of this machine named from the current folder."""
    places = sorted(set(_whole_paths(document)), key=len, reverse=True)

    def named(text: str) -> str:
        for place in places:
            text = re.sub(rf"(?<![^\s'\"=]){re.escape(place)}(?!\w)", _way, text)
        return text

    verdict, run = document.verdict, document.run
    if verdict.next_command is not None:
        verdict = replace(verdict, next_command=named(verdict.next_command))
    return replace(
        document,
        output=named(document.output),
        plan_file=named(document.plan_file),
        run=None if run is None else named(run),
        command=named(document.command),
        model=named(document.model),
        search_data=named(document.search_data),
        test_data=named(document.test_data),
        warnings=tuple(map(named, document.warnings)),
        verdict=verdict,
    )


def _whole_paths(document: RunResult) -> Iterator[str]:
    """Absolute paths of the files that it names."""
    ours = (document.output, document.plan_file, document.run or "", document.model)
    words = shlex.split(f"{document.command} {document.verdict.next_command or ''}")
    for name in (*ours, document.search_data, document.test_data, *words):
        if Path(name).is_absolute() and Path(name).name:
            yield name


def _way(found: re.Match[str]) -> str:
    """How to come to a file from the current folder."""
    try:
        return os.path.relpath(found[0])
    except ValueError:  # on another drive
        return Path(found[0]).name


def _digest(result: Path) -> str:
    return hashlib.sha256(bytes_of(result, RunError)).hexdigest()
