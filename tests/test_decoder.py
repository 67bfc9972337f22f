"""Decoding with operators gives back what was coded: two runtimes, and hostile blocks."""

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from onnxsemi._coding.code import best_codes
from onnxsemi._coding.groups import BYTE
from onnxsemi._coding.shared import Division, best_division, encode_blocks
from onnxsemi._emit import coded_sizes
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import decoder as storage
from onnxsemi._emit.storage.decoder import decoded
from onnxsemi._emit.storage.planes import unpacked
from onnxsemi._runtime.sessions import Session

FREE = [0] * 8


@pytest.fixture(params=[False, True], ids=["few words", "many words"])
def many(request, monkeypatch):
    """Both ways to look words up, however many there are."""
    monkeypatch.setattr(storage, "MANY", 0 if request.param else storage.MANY)


def decoder(blocks, dtype, division=None):
    """A graph that gives the symbols of all blocks, and what it must give."""
    counts = np.array([np.bincount(block, minlength=256) for block in blocks])
    division = division or best_division(counts, fixed_bits=FREE, class_bits=0)
    streams = encode_blocks(blocks, division)
    graph = gs.Graph(opset=18, ir_version=8)
    build, width = Builder(graph), division.form.prefix_bits
    prefixes = unpacked(build, f"g_{width}", streams.prefixes, width)
    symbols = decoded(build, prefixes, streams, division.codes, dtype)
    graph.outputs = [build.node("Identity", symbols, dtype=dtype)]
    graph.cleanup().toposort()
    wanted, begin = [], 0
    for members, total in zip(division.classes, streams.symbols, strict=True):
        whole = np.concatenate([blocks[block] for block in members])
        wanted.append((begin, whole.astype(np.uint8).view(dtype)))
        begin += total
    return gs.export_onnx(graph, do_type_check=False), wanted


def check(blocks, dtype=np.uint8, division=None):
    model, wanted = decoder(blocks, dtype, division)
    name, text = model.graph.output[0].name, model.SerializeToString()
    found = [ReferenceEvaluator(model, new_ops=[coded_sizes.GatherElements]).run(None, {})[0]]
    found += [Session(text, optimize=optimize).run({})[name] for optimize in (False, True)]
    for symbols in found:
        assert symbols.dtype == dtype
        for begin, whole in wanted:
            assert symbols[begin : begin + len(whole)].tobytes() == whole.tobytes()


def drawn(levels, share, count=500, seed=0):
    """The middle level with a share, the others evenly."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(count) < share, levels // 2, rng.integers(0, levels, count))


@dataclass(frozen=True)
class Case:
    id: str
    blocks: tuple[np.ndarray, ...]


RARE = np.zeros(2000, np.int64)
RARE[1234] = 255
CASES = [
    Case("each once", (np.array([3, 9]),)),
    Case("one word", (np.array([0] * 40 + [1]),)),
    Case("rare", (RARE,)),
    Case("all but one", (255 - RARE,)),
    Case("every byte", (np.arange(256),)),
    Case("blocks of unlike frequencies", (drawn(2, 0.99), drawn(200, 0), drawn(7, 0.5))),
    Case("blocks of other levels", (drawn(3, 0.9), drawn(3, 0.9) + 100, drawn(3, 0.9) + 200)),
    *(Case(f"{levels} levels", (drawn(levels, 0.5),)) for levels in (2, 3, 16, 127, 255)),
]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_hostile_blocks(case, dtype):
    check(case.blocks, dtype)


@pytest.mark.usefixtures("many")
def test_codes_of_every_form():
    """Words of one length and of many, places in groups that take more than a byte."""
    rng = np.random.default_rng(0)
    block = np.clip(np.rint(rng.laplace(0, 1.3, 2000)) + 4, 0, 8)
    blocks = (block.astype(np.int64), np.roll(block, 1).astype(np.int64)[1:])
    alphabet, counts = np.unique(block, return_counts=True)
    codes = best_codes(alphabet.astype(np.int64), 1000 * counts)  # for long streams
    assert {form.even_length > 1 for form in codes} == {False, True}
    for _, code in codes.values():
        check(blocks, division=Division(((0,), (1,)), (code, code), 0.0))
    assert max(int(code.widths.max()) for _, code in codes.values()) > BYTE


def test_nothing_but_one_symbol():
    """An empty layer: no code, and so nothing to decode."""
    with pytest.raises(ValueError, match="no code for 1"):
        decoder((np.zeros(50, np.int64),), np.uint8)


def test_sizes_around_the_ends_of_words():
    for count in range(120, 150):
        block = np.zeros(count, np.int64)
        block[5], block[77] = 1, 2
        check((block,))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    st.lists(
        st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 17, 255]), min_size=2, max_size=80).filter(
            lambda block: len(set(block)) > 1
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_blocks(blocks):
    check([np.array(block) for block in blocks])


@pytest.mark.slow
def test_one_symbol_in_a_million():
    block = np.zeros(1_000_000, np.int64)
    block[777_777] = 5
    model, ((begin, whole),) = decoder((block,), np.uint8)
    name = model.graph.output[0].name
    (symbols,) = Session(model.SerializeToString()).run({}).values()
    assert symbols[begin : begin + len(whole)].tobytes() == whole.tobytes(), name
