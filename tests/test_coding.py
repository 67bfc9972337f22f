"""The lossless coder: exact on hostile streams, near the entropy, the same at every call."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnxsemi._coding.code import Code, best_code, coded_bits, entropy
from onnxsemi._coding.groups import MAX_WIDTH, group_widths
from onnxsemi._coding.stream import decode, encode
from onnxsemi._coding.words import MAX_LENGTH, word_trees


def code_of(symbols) -> Code:
    alphabet, counts = np.unique(symbols, return_counts=True)
    return best_code(alphabet, counts)


def there_and_back(symbols, code):
    coded = encode(symbols, code)
    assert decode(coded, code).tolist() == symbols.ravel().tolist()
    return coded


def draw(levels, share, count=3000, seed=0):
    """Zero with a share, the other levels evenly."""
    rng = np.random.default_rng(seed)
    others = rng.integers(0, levels, count)
    return np.where(rng.random(count) < share, 0, others) - levels // 2


@dataclass(frozen=True)
class Stream:
    symbols: NDArray[np.int64]
    id: str


SKEWED = np.zeros(1_000_000, np.int64)
SKEWED[777_777] = 1
STREAMS = [
    Stream(np.array([0, 1]), "each once"),
    Stream(SKEWED, "one in a million"),
    Stream(1 - SKEWED, "all but one in a million"),
    Stream(np.repeat([-1, 1], 500), "one half after the other"),
    Stream(np.arange(-255, 256), "511 levels once each"),
    *(Stream(draw(n, 0.5), f"{n} levels") for n in (2, 3, 15, 16, 17, 64, 127, 255)),
    *(Stream(draw(3, share), f"zeros {share}") for share in (0.01, 0.9, 0.999)),
]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.id)
def test_hostile_streams(stream):
    there_and_back(stream.symbols, code_of(stream.symbols))


@pytest.mark.parametrize("symbol", [-1, 0, 1])
def test_one_symbol_only_with_a_code_for_more(symbol):
    there_and_back(np.full(1001, symbol), code_of(draw(3, 0.8)))


def test_nothing_is_coded_to_nothing():
    coded = there_and_back(np.zeros(0, np.int64), code_of(draw(3, 0.8)))
    assert coded.prefixes.size == coded.suffix_bits.size == coded.count == 0


def test_sizes_around_the_ends_of_words():
    code = code_of(draw(5, 0.9))
    word = np.zeros(int(code.lengths.max()), np.int64)
    for count in range(2 * len(word) + 2):
        coded = there_and_back(np.zeros(count, np.int64), code)
        assert len(coded.prefixes) <= count


def test_a_symbol_that_has_no_code():
    with pytest.raises(ValueError, match="not in the alphabet"):
        encode(np.array([7]), code_of(draw(3, 0.8)))
    with pytest.raises(ValueError, match="no code for 1"):
        best_code(np.array([0]), np.array([5]))


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-200, 200), min_size=2, max_size=60).filter(lambda s: len(set(s)) > 1),
    st.lists(st.integers(0, 10_000), max_size=300),
)
def test_any_symbols_under_any_code(seen, drawn):
    code = code_of(np.array(seen))
    there_and_back(code.alphabet[np.array(drawn, np.int64) % len(code.alphabet)], code)


@settings(deadline=None, derandomize=True)
@given(st.integers(2, 12), st.integers(1, 6), st.randoms(use_true_random=False))
def test_groups_are_the_cheapest(words, groups, random):
    """Against every way to cut few words into groups."""
    probability = np.array(sorted((random.random() for _ in range(words)), reverse=True))

    def cheapest(start, left):
        if start >= words:
            return 0.0
        if not left:
            return np.inf
        return min(
            r * probability[start : start + 2**r].sum() + cheapest(start + 2**r, left - 1)
            for r in range(5)
        )

    widths = group_widths(probability, groups)
    assert widths is not None
    assert len(widths) <= groups
    of_word = np.repeat(widths, 2**widths)[:words]
    assert float(of_word @ probability) == pytest.approx(cheapest(0, groups))


def test_too_many_words_for_the_groups():
    assert group_widths(np.full(2**MAX_WIDTH + 1, 1.0), 1) is None


def test_words_divide_every_sequence_in_one_way():
    (tree,) = word_trees(np.array([0.7, 0.2, 0.1]), [15])
    words = [tuple(word) for word in tree.symbols()]
    assert len(words) == 15
    assert tree.probability.sum() == pytest.approx(1)
    assert sum(3.0 ** -len(word) for word in words) == pytest.approx(1)  # a full tree
    for word in words:
        assert not any(word[:end] in words for end in range(len(word)))
    assert tree.leaf_probabilities(np.array([0.7, 0.2, 0.1])) == pytest.approx(tree.probability)


def test_no_word_is_longer_than_a_byte_counts():
    (tree,) = word_trees(np.array([1 - 1e-9, 1e-9]), [1024])
    assert tree.length.max() == MAX_LENGTH


def test_the_same_code_and_bytes_at_every_call():
    symbols = draw(9, 0.6)
    one, two = (encode(symbols, code_of(symbols)) for _ in range(2))
    assert one.prefixes.tobytes() == two.prefixes.tobytes()
    assert one.suffix_bits.tobytes() == two.suffix_bits.tobytes()


def scaled(kind, bits, count):
    """Rounded draws of a distribution whose entropy is so many bits."""
    low, high = 0.01, 100.0
    rng = np.random.default_rng(1)
    drawn = rng.laplace(size=count) if kind == "laplace" else rng.normal(size=count)
    while high / low > 1.0001:
        middle = (low * high) ** 0.5
        counts = np.unique(np.rint(drawn * middle), return_counts=True)[1]
        low, high = (middle, high) if entropy(counts) < bits else (low, middle)
    return np.rint(drawn * low).astype(np.int64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["laplace", "normal"])
@pytest.mark.parametrize("bits", [0.3, 0.65, 1, 1.5, 2, 3, 4, 5, 6])
def test_within_five_percent_of_the_entropy(kind, bits):
    symbols = scaled(kind, bits, 1_000_000)
    code = code_of(symbols)
    coded = there_and_back(symbols, code)
    size = len(coded.prefixes) * code.prefix_bits + len(coded.suffix_bits) + 8 * code.table_bytes
    least = symbols.size * entropy(np.unique(symbols, return_counts=True)[1])
    assert least <= size <= 1.05 * least
    assert coded_bits(symbols) == pytest.approx(size, rel=2e-3)
