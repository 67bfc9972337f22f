"""The journal: what was measured is answered by its question; damage is refused by its line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from run_files import lines

from onnxsemi._errors import RunError
from onnxsemi._run.journal import Journal, Question
from onnxsemi._run.spent import Spent
from onnxsemi._run.store import NO_RUN, opened_file, sealed

quickly = settings(deadline=None, derandomize=True)
KINDS = (np.float64, np.float32, np.int64, np.bool_)


class Count(Question, frozen=True):
    """A question."""

    of: int | str


class Other(Question, frozen=True):
    """A question of another kind."""

    of: int | str


def never() -> Any:
    pytest.fail("measured what was recorded")


def answer(value: object) -> Callable[[], Any]:
    return lambda: value


def ask(journal: Journal, number: int | str, measure: Callable[[], Any] = never) -> Any:
    return journal.ask(Count(number), Any, measure)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of five answers."""
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(5):
        ask(journal, number, answer(number))
    return tmp_path / "journal.jsonl"


class TestRecall:
    def test_without_measuring(self, path: Path) -> None:
        journal, before = Journal(path), path.read_bytes()
        order = (4, 1, 0, 2, 3)
        assert [ask(journal, n) for n in order] == list(order)
        assert journal.recalled == 5
        assert path.read_bytes() == before

    def test_what_is_not_recorded_is_measured_and_appended(self, path: Path) -> None:
        journal, before = Journal(path), path.read_bytes()
        for number in range(5):
            ask(journal, number)
        assert ask(journal, 5, answer("new")) == "new"
        assert journal.recalled == 5
        assert path.read_bytes().startswith(before)
        assert len(path.read_bytes().splitlines()) == 6

    def test_every_answer_is_on_disk_before_it_is_used(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.jsonl"
        journal = Journal(path)
        for number in range(3):
            ask(journal, number, answer(number))
            assert lines(tmp_path)[-1]["reply"] == number

    def test_recalling_until_the_last_line_is_asked_for(self, path: Path) -> None:
        journal, seen = Journal(path), []
        for number in range(5):
            seen.append(journal.recalling)
            ask(journal, number)
        assert seen == [True] * 5
        assert not journal.recalling

    def test_the_same_question_twice_has_the_same_answer(self, tmp_path: Path) -> None:
        for _ in range(2):
            journal = Journal(tmp_path / "journal.jsonl")
            assert [ask(journal, 0, answer(name)) for name in ("a", "b")] == ["a", "a"]
        assert len(lines(tmp_path)) == 1

    @pytest.mark.parametrize("question", [Count(5), Other(0), Count("0")])
    def test_another_question_is_measured(self, path: Path, question: Question) -> None:
        journal, before = Journal(path), path.read_bytes()
        assert journal.ask(question, str, answer("new")) == "new"
        assert (journal.recalled, journal.recalling) == (0, False)
        assert path.read_bytes().startswith(before)
        assert path.read_bytes().count(b"\n") == 6

    @quickly
    @given(asked=st.lists(st.integers(0, 3), max_size=12), again=st.lists(st.integers(0, 3)))
    def test_any_order_gives_what_the_first_asking_gave(
        self, tmp_path_factory: pytest.TempPathFactory, asked: list[int], again: list[int]
    ) -> None:
        """A question has one answer, however often it is asked, and is measured once."""
        path = tmp_path_factory.mktemp("order") / "journal.jsonl"
        known: dict[int, object] = {}
        for numbers in (asked, again):
            journal, before = Journal(path), set(known)
            for place, number in enumerate(numbers):
                known.setdefault(number, f"{len(before)} {place}")
                assert ask(journal, number, answer(f"{len(before)} {place}")) == known[number]
            assert journal.recalled == len(before & set(numbers))
        assert path.exists() == bool(known)
        assert not known or path.read_bytes().count(b"\n") == len(known)

    def test_recalling_ends_with_the_first_new_measurement(self, path: Path) -> None:
        """Answers that are never asked for again do not hold up the end of the time budget."""
        journal, seen = Journal(path), []
        for number in (3, 9, 0, 1):
            ask(journal, number, answer(number))
            seen.append(journal.recalling)
        assert seen == [True, False, True, True]
        ask(journal, 10, answer(10))
        assert not journal.recalling
        assert journal.recalled == 3

    def test_a_measurement_that_fails_leaves_no_line(self, path: Path) -> None:
        before = path.read_bytes()
        journal = Journal(path)
        for number in range(5):
            ask(journal, number)
        with pytest.raises(ZeroDivisionError):
            ask(journal, 5, lambda: 1 / 0)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "value", [0.1, 1e-310, -0.0, 1 / 3, float("inf"), float("-inf"), None, 2**60, "Δloss\n"]
    )
    def test_plain_values_come_back_as_they_were(self, tmp_path: Path, value: object) -> None:
        path = tmp_path / "journal.jsonl"
        ask(Journal(path), 1, answer(value))
        assert repr(ask(Journal(path), 1)) == repr(value)
        assert path.read_bytes().count(b"\n") == 1

    def test_without_a_file_nothing_is_kept(self) -> None:
        journal = Journal()
        given = [ask(journal, 0, answer(value)) for value in (1, 2)]
        assert (given, journal.recalled, journal.recalling) == ([1, 1], 0, False)


class TestDamage:
    @pytest.mark.parametrize("kept", [1, 10, -1])
    def test_a_last_line_cut_short_is_dropped(self, path: Path, kept: int) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:4]) + lines[4][:kept])
        journal = Journal(path)
        assert path.read_bytes() == b"".join(lines[:4])
        for number in range(4):
            ask(journal, number)
        assert ask(journal, 4, answer("again")) == "again"
        again = Journal(path)
        assert [ask(again, n) for n in range(5)] == [0, 1, 2, 3, "again"]

    def test_a_first_line_cut_short_leaves_an_empty_journal(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:5])
        assert not Journal(path).recalling
        assert path.read_bytes() == b""

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"nonsense",
            b'{"run": "0", "sha256": "0", "content": {}}',
            sealed({"ask": "Count", "of": "0"}, NO_RUN)[:-1],
            sealed(
                {
                    "ask": "Count",
                    "of": "0",
                    "spent": {"seconds": 0.1, "cpu_seconds": 0.1},
                    "reply": 1,
                },
                "1" * 64,
            )[:-1],
        ],
    )
    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_a_damaged_line_is_named(self, path: Path, line: bytes, number: int) -> None:
        lines = path.read_bytes().splitlines()
        lines[number - 1] = line
        damaged = b"\n".join(lines) + b"\n"
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=rf"journal\.jsonl: line {number} is (damaged|of an)"):
            Journal(path)
        assert path.read_bytes() == damaged

    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_any_changed_byte_is_found(self, path: Path, number: int) -> None:
        """The line can still be read; only what it says is another."""
        texts = path.read_bytes().splitlines()
        texts[number - 1] = texts[number - 1].replace(b'"seconds": ', b'"seconds": 9')
        path.write_bytes(b"\n".join(texts) + b"\n")
        with pytest.raises(RunError, match=rf"line {number} is damaged"):
            Journal(path)

    def test_of_another_run(self, path: Path) -> None:
        with pytest.raises(RunError, match=r"journal\.jsonl: line 1 is of another run; delete it"):
            Journal(path, "1" * 64)

    def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="cannot be read"):
            Journal(tmp_path)

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "gone" / "journal.jsonl")
        with pytest.raises(RunError, match="cannot be written"):
            ask(journal, 0, answer(0))


class TestClose:
    def test_nothing_more_is_appended(self, path: Path) -> None:
        journal, before = Journal(path), path.read_bytes()
        for number in range(5):
            ask(journal, number)
        journal.close()
        assert ask(journal, 5, answer("not kept")) == "not kept"
        assert path.read_bytes() == before

    def test_what_is_recorded_is_still_recalled(self, path: Path) -> None:
        journal = Journal(path)
        journal.close()
        assert ask(journal, 0) == 0


class TestSpent:
    def test_adds_up_over_sessions(self, path: Path) -> None:
        """Lines that are never asked for again were measured all the same."""
        for number, line in enumerate(found := lines(path.parent)):
            line["spent"] = {"seconds": 10.0**number, "cpu_seconds": 2 * 10.0**number}
        path.write_bytes(b"".join(sealed(line, NO_RUN) for line in found))
        journal = Journal(path)
        ask(journal, 3)
        ask(journal, 5, answer(0))
        assert 11111 < journal.spent.seconds < 11112
        assert 22222 < journal.spent.cpu_seconds < 22223

    def test_lines_have_what_lies_between_them(self, tmp_path: Path) -> None:
        began = Spent.so_far() - Spent(100.0, 50.0)
        journal = Journal(tmp_path / "journal.jsonl", began=began)
        ask(journal, 0, answer(0))
        assert 100 < journal.spent.seconds < 101
        assert journal.unrecorded.seconds < 1
        (line,) = lines(tmp_path)
        assert 50 < line["spent"]["cpu_seconds"] < 51

    def test_without_a_file_too(self) -> None:
        journal = Journal(began=Spent.so_far() - Spent(3.0, 2.0))
        ask(journal, 0, answer(0))
        assert 3 < journal.spent.seconds < 4


def arrays() -> st.SearchStrategy[NDArray[Any]]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return st.sampled_from(KINDS).flatmap(lambda kind: hnp.arrays(kind, shapes))


def assert_same(one: NDArray[Any], other: NDArray[Any]) -> None:
    assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def kept(array: NDArray[Any]) -> NDArray[Any]:
    """What comes back of an array."""
    return opened_file(sealed(array, NO_RUN), NDArray[Any], NO_RUN)


class TestArrays:
    @settings(max_examples=200, deadline=None)
    @given(array=arrays())
    def test_come_back_bit_for_bit(self, array: NDArray[Any]) -> None:
        assert_same(kept(array), array)

    @pytest.mark.parametrize("kind", [np.float64, np.float32])
    def test_nan_infinity_and_negative_zero(self, kind: type) -> None:
        values = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40], kind)
        assert_same(kept(values), values)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
    def test_shapes(self, kind: type, shape: tuple[int, ...]) -> None:
        assert_same(kept(np.ones(shape, kind)), np.ones(shape, kind))

    def test_columns_and_other_byte_orders(self) -> None:
        values = np.arange(12.0).reshape(3, 4)
        for array in (values.T, values[:, ::2], values.astype(">f8"), np.asfortranarray(values)):
            assert kept(array).tolist() == array.tolist()

    def test_can_be_written_to(self) -> None:
        array = kept(np.zeros(3))
        array[0] = 1
        assert array.tolist() == [1, 0, 0]
