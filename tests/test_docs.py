"""Every example of the README and of docs/ runs as it is written; every link leads somewhere.

Each page has a folder of its own, that holds what a reader would have: the bundled model (half of
its layers) and its images (a few), and what the README's first command wrote. The blocks of a page
run in order. A block that cannot run says why, in a comment right before it: ``<!-- not run: ...
-->``. A python block whose first line is a comment with a file's name is also saved under that
name.
"""

import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
IMAGES = 48
MANY = 20 * IMAGES
LANGUAGES = {"sh", "python", "json", ""}  # what has none is output
NOT_RUN = {"installs packages", "needs PyTorch", "needs a cluster"}
TIMEOUT = 300  # seconds; a block that hangs fails
FENCE = re.compile(
    r"(?:<!-- not run: (?P<excuse>[^>]*) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    excuse: str | None

    @property
    def file(self) -> str | None:
        """The name that a python block is saved under."""
        named = re.match(r"# (\w+\.py)\b", self.text)
        return named[1] if named and self.language == "python" else None

    def run(self, folder: Path, environment: dict[str, str]) -> None:
        """Run it in a folder as a user would, and fail if it does."""
        if self.file:
            (folder / self.file).write_text(self.text)
            if f"python {self.file}" in _page(self.page):
                return  # a command of the page runs it
        shell = ["bash", "-euo", "pipefail", "-c", self.text]
        command = shell if self.language == "sh" else [sys.executable, "-c", self.text]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=TIMEOUT)
        finally:
            if process.poll() is None:  # with all that it started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert process.returncode == 0, f"{self.page}:{self.line}\n{self.text}\n{said}"


def _page(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def _blocks(page: Path) -> list[Block]:
    name, text = str(page.relative_to(PROJECT)), page.read_text(encoding="utf-8")
    return [
        Block(
            name,
            text.count("\n", 0, found.start("text")),
            found["language"],
            found["text"],
            found["excuse"],
        )
        for found in FENCE.finditer(text)
    ]


def _first_command() -> str:
    """The README's command, without what installs it."""
    start = next(block.text for block in _blocks(PROJECT / "README.md") if "pip" in block.text)
    command = start.split(" && ")[-1].strip().removeprefix(".venv/bin/")
    assert command.startswith("onnxsemi compress models/")
    return command


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The commands of this project on the path, and a port that is free."""
    bin_folder = tmp_path_factory.mktemp("bin")
    for name, arguments in (("onnxsemi", '-m onnxsemi "$@"'), ("python", '"$@"')):
        (bin_folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n')
        (bin_folder / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(PROJECT), "PORT": str(port)}


def one_block_a_stage(model):
    """The bundled model without the later blocks of its stages: half of its layers, same names.

    It was not trained so: its own answers are the labels, once they are of every class.
    """
    graph = model.graph
    for node in [node for node in graph.node if re.search(r"stage\d\.[12]/", node.name)]:
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [re.sub(r"(stage\d)\.2/Relu_1", r"\1.0/Relu_1", i) for i in node.input]
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    return model


def answers(model, arrays):
    """Logits of the images in a ``.npz`` file."""
    pixels = (arrays["x"].transpose(0, 3, 1, 2) / 255 - arrays["mean"]) / arrays["std"]
    (logits,) = ReferenceEvaluator(model).run(None, {"input": pixels.astype(np.float32)})
    return logits


def balance(model, logits):
    """Change the classifier so that each class has logits of mean 0 and deviation 1."""
    for tensor in model.graph.initializer:
        if tensor.name.startswith("classifier"):
            values = numpy_helper.to_array(tensor)
            moved = values - logits.mean(axis=0) if values.ndim == 1 else values
            scale = logits.std(axis=0).reshape((-1,) + (1,) * (values.ndim - 1))
            new = (moved / scale).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))


def surest(model, arrays):
    """Of the images those whose answers hang least on the last bits of a plan: some of each class.

    So few images could show a loss by chance, and then no file is written.
    """
    many = {k: v[:MANY] if k in "xy" else v for k, v in arrays.items()}
    logits = answers(model, many)
    first, second = np.sort(logits)[:, :-3:-1].T
    order, found = np.argsort(second - first, kind="stable"), logits.argmax(axis=1)
    each = IMAGES // logits.shape[1]
    of_class = [order[found[order] == label] for label in range(logits.shape[1])]
    chosen = np.concatenate([own[:each] for own in of_class])
    rest = order[~np.isin(order, chosen)]
    return np.sort(np.concatenate([chosen, rest[: IMAGES - len(chosen)]]))


@pytest.fixture(scope="module")
def start(tmp_path_factory, environment):
    """What a reader has after the README's first command, and files of their own."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "models").mkdir()
    model = folder / "models" / "fashion_resnet20.onnx"
    (folder / "model.onnx").symlink_to(model)
    short = one_block_a_stage(onnx.load(PROJECT / "models" / model.name))
    for name, own in (("search", "images.npz"), ("report", "test.npz")):
        few = folder / "models" / f"fashion_{name}.npz"
        with np.load(PROJECT / "models" / few.name) as arrays:
            every = dict(arrays)
        if not model.exists():
            balance(short, answers(short, {**every, "x": every["x"][:IMAGES]}))
            onnx.save(short, model)
        chosen = surest(short, every)
        kept = {k: v[chosen] if k in "xy" else v for k, v in every.items()}
        np.savez(few, **{**kept, "y": answers(short, kept).argmax(axis=1)})
        (folder / own).symlink_to(few)
    Block("README.md", 0, "sh", _first_command(), None).run(folder, environment)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
class TestPage:
    @pytest.mark.slow
    def test_blocks_run(self, page, start, environment, tmp_path):
        blocks = [b for b in _blocks(page) if b.language in {"sh", "python"} and not b.excuse]
        if not blocks:
            pytest.skip("no commands")
        folder = shutil.copytree(start, tmp_path / "page", symlinks=True)
        for block in blocks:
            if block.text.strip() != _first_command():  # that has run
                block.run(folder, environment)

    def test_no_block_is_left_out_without_a_reason(self, page):
        for block in _blocks(page):
            where = f"{block.page}:{block.line}"
            assert block.language in LANGUAGES, where
            assert block.excuse is None or block.excuse in NOT_RUN, where
            assert block.excuse is None or block.language in {"sh", "python"}, where
        text = page.read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(_blocks(page)), "a fence that is no block"
        assert text.count("<!-- not run") == sum(b.excuse is not None for b in _blocks(page))

    def test_links_lead_somewhere(self, page):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            assert other.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(other), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    """Names of a page's headings, as links call them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_readme_is_read_in_three_minutes():
    assert len(_page("README.md").split()) <= 900, "the rest goes to docs/"


def test_api_is_up_to_date():
    script = runpy.run_path(str(PROJECT / "docs" / "make_api.py"))
    assert _page("docs/api.md") == script["page"](), "run: python docs/make_api.py"


def test_options_are_up_to_date():
    script, page = runpy.run_path(str(PROJECT / "docs" / "make_options.py")), "docs/command-line.md"
    assert _page(page) == script["page"](_page(page)), "run: python docs/make_options.py"


def test_exit_codes_are_in_docs():
    for page in ("docs/usage.md", "docs/command-line.md"):
        for code in ("0", "1", "2", "3", "4", "130"):
            assert re.search(rf"\b{code}\b", _page(page)), (page, code)


def test_architecture_is_up_to_date():
    """The page, and a picture that a browser can read, are what the code says."""
    script = runpy.run_path(str(PROJECT / "docs" / "make_architecture.py"))
    wanted = "run: python docs/make_architecture.py"
    page, picture = _page("docs/architecture.md"), _page("docs/architecture.svg")
    assert page == script["page"](page), wanted
    assert picture == script["picture"](), wanted
    assert ElementTree.fromstring(picture).tag.endswith("svg")
