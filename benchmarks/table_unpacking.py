"""What unpacking by a table would take: a Gather of 256 rows instead of shifts and masks.

    python benchmarks/table_unpacking.py --work ~/.cache/onnxsemi-runtimes

A byte of a plane is the index, its row the codes that it holds:

    plane -> Cast -> Gather(table [k, 256], axis 1) -> Reshape

The same bytes of weights are stored as in the profiles, with an operator fewer a plane of which a
code is the whole, and as many where codes are put together of several planes (Mul of a table of
256 columns, Add). *stored*: the tables are in the file, 512 to 2,048 bytes for each width of a
field. *computed*: they are made of their 256 numbers by float32 arithmetic while a session loads.
Codes become uint8 as in the profiles, and the rest of the file is the profile's.

The bundled model with three and with five bitwidths in every layer, in the runtimes of
``runtimes.py``; bytes without metadata. Writes the table of ``benchmarks/README.md`` anew with
``--table``.
"""

import argparse
import gzip
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from cases import FASHION
from emitted import LADDERS, Form, plan_of, random_plan
from runtime_files import write_file
from runtime_matrix import OLDER, OTHERS, PRESENT, MissingRuntimeError, Runtime
from tables import replace_table, this_machine

from onnxsemi import Profile, ReadOptions, TargetPolicy
from onnxsemi._arrays import Float32Array, UInt8Array
from onnxsemi._emit.bitplanes import field_widths
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.compaction import slim
from onnxsemi._emit.model import put_together
from onnxsemi._emit.profile import FORMS as PARTS
from onnxsemi._emit.storage.float_planes import FloatPlanes
from onnxsemi._emit.storage.planes import stored_planes
from onnxsemi._model.reader import read_model
from onnxsemi._quantizer.affine import QuantizedChannels
from onnxsemi._quantizer.rounded_plan import Nearest, rounded

TRIED = (
    (Profile.FAST, "three"),
    (Profile.FAST, "five"),
    (Profile.INT8, "three"),
    (Profile.PORTABLE, "three"),
)
WINDOW = 0.05


class StoredTables(FloatPlanes):
    """Planes, looked up in tables that the file holds."""

    folds_early: ClassVar[bool] = True

    def _flat(self, kind: QuantizedChannels, codes: UInt8Array) -> gs.Tensor:
        build, below = self._build, 0
        widths = field_widths(kind.bits)
        alone, parts = len(widths) == 1 and not kind.doubled, []
        for plane, width in zip(stored_planes(build, kind, codes), widths, strict=True):
            table = self._table(width)
            if not alone:
                unit = np.array([2.0 ** (below + kind.doubled)], np.float32)
                table = build.node(
                    "Mul", build.cast(table, np.float32), build.shared(unit), dtype=np.float32
                )
            rows = build.gather(table, build.cast(plane, np.int32), axis=1)  # [k, m]
            parts.append(build.node("Reshape", rows, build.integers(-1), dtype=table.dtype))
            below += width
        joined = parts[0]
        for part in parts[1:]:
            joined = build.node("Add", joined, part, dtype=np.float32)
        return joined if alone else build.cast(joined, np.uint8)

    def _table(self, width: int) -> gs.Tensor:
        """uint8[k, 256], the fields of every byte."""
        low = np.arange(0, 8, width)[:, None]
        return self._build.shared(((np.arange(256) >> low) & (2**width - 1)).astype(np.uint8))


class ComputedTables(StoredTables):
    """Planes, looked up in tables that a session makes."""

    def __init__(self, build: Builder, *, signed: bool) -> None:
        """Store into a graph."""
        super().__init__(build, signed=signed)
        self._made: dict[int, gs.Tensor] = {}

    def _table(self, width: int) -> gs.Tensor:
        if width not in self._made:
            self._made[width] = self._computed(width)
        return self._made[width]

    def _computed(self, width: int) -> gs.Tensor:
        """uint8[k, 256]: what FloatPlanes does to planes, done to the numbers below 256."""
        build, low = self._build, np.arange(0, 8, width)[:, None]
        ends = [build.shared(np.array(value, np.float32)) for value in (0, 256, 1)]
        numbers = build.node("Range", *ends, dtype=np.float32)
        kept = _floor(build, numbers, 2.0**-low)
        above = _floor(build, numbers, 2.0 ** -(low + width))
        factor = build.shared(np.array([2.0**width], np.float32))
        raised = build.node("Mul", above, factor, dtype=np.float32)
        return build.cast(build.node("Sub", kept, raised, dtype=np.float32), np.uint8)


def _floor(build: Builder, numbers: gs.Tensor, factors: Float32Array) -> gs.Tensor:
    constant = build.shared(factors.astype(np.float32))
    product = build.node("Mul", numbers, constant, dtype=np.float32)
    return build.node("Floor", product, dtype=np.float32)


WAYS = {"as it is": None, "stored": StoredTables, "computed": ComputedTables}


def main() -> int:
    """Write the files, run them, print what was found."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--table", action="store_true", help="write the table anew")
    options.add_argument("--work", type=Path, default=Path("runtimes"), help="packages are there")
    arguments = options.parse_args()
    with TemporaryDirectory(prefix="onnxsemi-") as name:
        files = Path(name)
        for profile, ladder in TRIED:
            _write(files, ladder, profile)
        found = {}
        for runtime in (*OLDER, *PRESENT[:2], *OTHERS):
            found |= _found(runtime, files, arguments.work.absolute())
        lines = [f"{this_machine()}.", "", *_table(files, found)]
    print("\n".join(lines))
    if arguments.table:
        replace_table("table_unpacking", lines)
    return 0


def _write(files: Path, ladder: str, profile: Profile) -> None:
    """A file as ``apply`` writes it, and the same with tables; all without metadata."""
    form, parts = Form(profile), PARTS[profile]
    written = files / f"{_stem(ladder, profile, 'as it is')}.onnx"
    write_file(FASHION, written, ladder, form, WINDOW)
    document = plan_of(FASHION, ladder, form, TargetPolicy.ALL)
    classifier = read_model(FASHION.model, ReadOptions(targets=TargetPolicy.ALL))
    plan = random_plan(classifier, LADDERS[ladder])
    codes = rounded(classifier.layers, plan, Nearest(form.scheme))
    for way, storage in WAYS.items():
        if storage is None or profile is not Profile.PORTABLE:
            made = replace(parts, storage=storage or parts.storage)
            model = put_together(classifier, codes, made, document.activations)
            there = {tensor.name for tensor in classifier.proto.graph.initializer}
            added = {tensor.name for tensor in model.graph.initializer} - there
            slim(model, keep={classifier.ends.logits, *added}, implied=False)
            model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
            path = files / f"{_stem(ladder, profile, way)}.onnx"
            onnx.save(model, path)
            if path != written:
                shutil.copy(written.with_suffix(".npz"), path.with_suffix(".npz"))


def _stem(ladder: str, profile: Profile, way: str) -> str:
    return f"fashion-{ladder}-{profile}-{way.replace(' ', '_')}"


def _found(runtime: Runtime, files: Path, work: Path) -> dict[str, dict[str, dict[str, object]]]:
    try:
        document = json.loads(runtime.run(files, work))
    except MissingRuntimeError as error:
        print(f"SKIPPED, NOT TRIED: {runtime.title}: {error}", file=sys.stderr)
        return {}
    return {f"{runtime.title} {document['version']}": document["found"]}


def _table(files: Path, found: dict[str, dict[str, dict[str, object]]]) -> list[str]:
    """One row a file: its bytes, nodes, and load time where it agrees."""
    head = ["profile", "bitwidths", "tables", "bytes", "gzip", "nodes", *found]
    rows = [head, ["---"] * len(head)]
    for profile, ladder in TRIED:
        for way in WAYS:
            path = files / f"{_stem(ladder, profile, way)}.onnx"
            if path.exists():
                nodes = len(onnx.load(path).graph.node)
                packed = len(gzip.compress(path.read_bytes(), mtime=0))
                cells = [f"{path.stat().st_size:,}", f"{packed:,}", str(nodes)]
                outcomes = [_cell(by_file[path.stem]) for by_file in found.values()]
                rows.append([f"`{profile}`", ladder, way, *cells, *outcomes])
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _cell(outcome: dict[str, object]) -> str:
    if outcome["outcome"] != "agrees":
        return "no"
    kept = ", ".join(outcome.get("left") or [])  # type: ignore[arg-type]
    return f"{1000 * float(str(outcome['load'])):.1f} ms{f', leaves {kept}' if kept else ''}"


if __name__ == "__main__":
    sys.exit(main())
