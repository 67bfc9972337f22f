"""Two runs, and what of them can be compared.

Figures of two runs can be compared if they are of the same model on the same images; fingerprints
tell. Where the test images are the same, the two files are compared image by image as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from onnxsemi._report.document import RunResult
from onnxsemi._report.page.about import as_text
from onnxsemi._report.page.run import Run

MODEL, SEARCH, REPORT = "model", "calibration data", "test data"
"""Inputs, as a run's identity calls them."""

_APART = {
    MODEL: "The two runs are of different models: each change is from a float model of its own, "
    "and the figures of one say nothing about the other.",
    REPORT: "The test images of the two runs differ: accuracies, intervals and verdicts are of "
    "other images, and cannot be compared.",
    SEARCH: "The calibration images of the two runs differ: KL, and changes on these images, "
    "cannot be compared.",
}
_LABELS = "One run has labels and the other has none: accuracy and agreement cannot be compared."
_NAMED = {MODEL: "model", SEARCH: "search_data", REPORT: "test_data"}
_PROGRAMS = ("onnxsemi", "onnx", "onnxruntime", "numpy", "scipy", "processor")


@dataclass(frozen=True, eq=False)
class RunPair:
    """Two runs.

    Attributes:
        one: The first.
        other: The second.
    """

    one: Run
    other: Run

    @property
    def names(self) -> tuple[str, str]:
        """What the two are called: by their folders, or by whole paths where these are the same."""
        one, other = self.one.path, self.other.path
        if one.name and one.name != other.name:
            return f"A: {one.name}", f"B: {other.name}"
        return f"A: {one}", f"B: {other}"

    @property
    def documents(self) -> tuple[RunResult, RunResult]:
        """What the two came to."""
        return self.one.kept.document, self.other.kept.document

    @property
    def labelled(self) -> tuple[bool, bool]:
        """Whether answers of each were compared with labels."""
        one, other = (document.has_labels for document in self.documents)
        return one, other

    def same(self, part: str) -> bool:
        """Whether both were made from the same input, by its fingerprint."""
        one, other = (document.made_from[part] for document in self.documents)
        return bool(one == other)

    @property
    def same_images(self) -> bool:
        """Whether answers can be compared image by image."""
        return self.same(REPORT) and self.labelled[0] == self.labelled[1]

    def cautions(self) -> Iterator[str]:
        """What must not be compared, a sentence each."""
        yield from (text for part, text in _APART.items() if not self.same(part))
        if self.labelled[0] != self.labelled[1]:
            yield _LABELS

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Inputs, settings and versions that are not the same: name, and what each has."""
        for part, key in _NAMED.items():
            if not self.same(part):
                named = ((getattr(d, key), str(d.made_from[part])) for d in self.documents)
                one, other = (f"{name} ({digest[:12]}…)" for name, digest in named)
                yield part.replace("data", "images"), one, other
        first, second = (document.made_from for document in self.documents)
        for name in dict.fromkeys((*first, *second)):
            chosen = name.startswith("--") or name in _PROGRAMS
            if chosen and first.get(name) != second.get(name):
                yield name, as_text(first.get(name)), as_text(second.get(name))
