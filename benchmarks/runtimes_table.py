"""What runtimes make of the emitted files, as tables and as faults."""

from dataclasses import dataclass, field

from emitted import FORMS
from runtime_files import FLOAT, MEASURED, may_fail
from runtime_matrix import Runtime


@dataclass(frozen=True)
class Outcome:
    """What a runtime made of a file; see ``runtime_probe.py``.

    Attributes:
        outcome: "agrees", or what is wrong.
        error: Difference as a share of the logits; None if it gave none, or not a number.
        load: Seconds of the processor; None where speed is not measured.
        memory: Bytes; None where the runtime does not tell.
        latency: Likewise; None where speed is not measured.
        fused: Layers on integer kernels; None for what has no such kernels.
        left: Operators that only unpack weights and are run all the same.
    """

    outcome: str
    error: float | None = None
    load: float | None = None
    memory: int | None = None
    latency: float | None = None
    fused: int | None = None
    left: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether it loads and agrees."""
        return self.outcome == "agrees"


@dataclass(frozen=True)
class Answers:
    """What a runtime made of the files.

    Attributes:
        runtime: Which one.
        version: Its version.
        found: File -> outcome.
    """

    runtime: Runtime
    version: str
    found: dict[str, Outcome]

    @property
    def title(self) -> str:
        """The runtime and its version."""
        return f"{self.runtime.title} {self.version}"

    def of(self, form: str) -> dict[str, Outcome]:
        """Its outcomes of a profile."""
        return {stem: o for stem, o in self.found.items() if stem.split("-", 2)[2] == form}


def wrong(runs: list[Answers]) -> list[str]:
    """What should agree and does not, and what a default session leaves."""
    faults = []
    for run in runs:
        for form in (*(form.name for form in FORMS), "float"):
            must = form == "float" or run.runtime.must_agree(form)
            for stem, found in run.of(form).items():
                if must and not found.agrees and not may_fail(stem):
                    faults.append(f"{run.title}: {stem}: {found.outcome}")
                if found.left:
                    left = ", ".join(found.left)
                    faults.append(f"{run.title}: {stem}: a default session leaves {left}")
    return faults


def matrix(runs: list[Answers]) -> list[str]:
    """One row a profile, one column a runtime: whatever agrees in all files, or in which."""
    rows = [["profile", *(run.title for run in runs)], ["---"] * (len(runs) + 1)]
    for form in FORMS:
        cells = []
        for run in runs:
            found = {stem: o.agrees for stem, o in run.of(form.name).items()}
            not_two = all(agrees for stem, agrees in found.items() if not may_fail(stem))
            cells.append("yes" if all(found.values()) else "but for 2 bits" if not_two else "no")
        rows.append([f"`{form.name}`", *cells])
    fused = [run.found[f"{MEASURED}-int8"].fused for run in runs]
    told = ("" if count is None else str(count) for count in fused)
    return _lines([*rows, ["layers of `int8` on integer kernels, of 22", *told]])


def costs(runs: list[Answers]) -> list[str]:
    """One row a runtime: what loading and running a file of each profile takes in it.

    The float file in milliseconds and megabytes, its latency in milliseconds; the others' latency
    as a multiple of its.
    """
    forms = [form.name for form in FORMS]
    head = ["runtime", "float32", *(f"`{form}`" for form in forms), "differ by at most"]
    rows = [head, ["---"] * len(head)]
    for run in runs:
        base = run.found[FLOAT]
        cells = [_cell(run.found[f"{MEASURED}-{form}"], base) for form in forms]
        rows.append([run.title, _cell(base, None), *cells, _most(run)])
    refused = [run for run in runs if not run.runtime.everything]
    told = [f"- {run.title}: {_advice(run)}" for run in refused]
    return [*_lines(rows), "", *told]


def _cell(found: Outcome, base: Outcome | None) -> str:
    if not found.agrees:
        return "no"
    if found.load is None or found.latency is None:
        return "yes"
    parts = [f"{1000 * found.load:.2g} ms" if found.load < 0.01 else f"{1000 * found.load:.0f} ms"]
    if found.memory is not None:
        parts.append(f"{found.memory / 1e6:.1f} MB")
    if base is None:
        parts.append(f"{1000 * found.latency:.2g} ms")
    elif base.latency is not None:
        parts.append(f"{found.latency / base.latency:.2f}")
    return " / ".join(parts)


def _most(run: Answers) -> str:
    """The largest difference of what agrees on float activations, and of what quantizes them."""
    grids = {form.name for form in FORMS if form.profile.quantizes_activations}
    largest = {True: 0.0, False: 0.0}
    for form in FORMS:
        for found in run.of(form.name).values():
            if found.agrees and found.error is not None:
                kind = form.name in grids
                largest[kind] = max(largest[kind], found.error)
    return " / ".join(f"{value:.0e}" if value else "0" for value in (largest[False], largest[True]))


def _advice(run: Answers) -> str:
    left = [form.name for form in FORMS if form.name not in run.runtime.takes]
    taken = ", ".join(f"`{form}`" for form in run.runtime.takes)
    return f"{run.runtime.because}: not {', '.join(f'`{form}`' for form in left)}. Take {taken}."


def _lines(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in rows]
