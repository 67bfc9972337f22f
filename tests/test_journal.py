"""The journal: what was measured is answered by its question; damage is refused by its line."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from onnxsemi.errors import RunError
from onnxsemi.run.journal import Journal, Reply, packed, unpacked

quickly = settings(deadline=None, derandomize=True)
KINDS = (np.float64, np.float32, np.int64, np.bool_)


def never() -> Reply:
    pytest.fail("measured what was recorded")


def answer(value: object) -> Callable[[], Reply]:
    return lambda: {"value": value}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of five answers."""
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(5):
        journal.ask("count", number, answer(number))
    return tmp_path / "journal.jsonl"


class TestRecall:
    def test_without_measuring(self, path: Path) -> None:
        journal, before = Journal(path), path.read_bytes()
        order = (4, 1, 0, 2, 3)
        assert [journal.ask("count", n, never)["value"] for n in order] == list(order)
        assert journal.recalled == 5
        assert path.read_bytes() == before

    def test_what_is_not_recorded_is_measured_and_appended(self, path: Path) -> None:
        journal, before = Journal(path), path.read_bytes()
        for number in range(5):
            journal.ask("count", number, never)
        assert journal.ask("count", 5, answer("new")) == {"value": "new"}
        assert journal.recalled == 5
        assert path.read_bytes().startswith(before)
        assert len(path.read_bytes().splitlines()) == 6

    def test_every_answer_is_on_disk_before_it_is_used(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.jsonl"
        journal = Journal(path)
        for number in range(3):
            journal.ask("count", number, answer(number))
            assert json.loads(path.read_bytes().splitlines()[-1])["reply"] == {"value": number}

    def test_recalling_until_the_last_line_is_asked_for(self, path: Path) -> None:
        journal, seen = Journal(path), []
        for number in range(5):
            seen.append(journal.recalling)
            journal.ask("count", number, never)
        assert seen == [True] * 5
        assert not journal.recalling

    def test_the_same_question_twice_is_two_lines(self, tmp_path: Path) -> None:
        for expected in (["a", "b"], ["a", "b"]):
            journal = Journal(tmp_path / "journal.jsonl")
            given = [journal.ask("twice", 0, answer(name))["value"] for name in ("a", "b")]
            assert given == expected

    @pytest.mark.parametrize(("kind", "question"), [("count", 5), ("other", 0), ("count", "0")])
    def test_another_question_is_measured(self, path: Path, kind: str, question: object) -> None:
        journal, before = Journal(path), path.read_bytes()
        assert journal.ask(kind, question, answer("new")) == {"value": "new"}
        assert (journal.recalled, journal.recalling) == (0, False)
        assert path.read_bytes().startswith(before)
        assert path.read_bytes().count(b"\n") == 6

    @quickly
    @given(asked=st.lists(st.integers(0, 3), max_size=12), again=st.lists(st.integers(0, 3)))
    def test_any_order_gives_what_the_first_asking_gave(
        self, tmp_path_factory: pytest.TempPathFactory, asked: list[int], again: list[int]
    ) -> None:
        """The n-th asking of a question has the n-th answer, and nothing is measured twice."""
        path = tmp_path_factory.mktemp("order") / "journal.jsonl"
        first = Journal(path)
        for place, number in enumerate(asked):
            first.ask("count", number, answer(place))
        second, measured = Journal(path), 0
        for place, number in enumerate(again):
            known = [at for at, other in enumerate(asked) if other == number]
            nth = again[:place].count(number)
            expected = known[nth] if nth < len(known) else f"new {place}"
            measured += nth >= len(known)
            assert second.ask("count", number, answer(f"new {place}")) == {"value": expected}
        assert second.recalled == len(again) - measured
        assert path.exists() == bool(asked or again)
        if path.exists():
            assert path.read_bytes().count(b"\n") == len(asked) + measured

    def test_recalling_ends_with_the_first_new_measurement(self, path: Path) -> None:
        """Answers that are never asked for again do not hold up the end of the time budget."""
        journal, seen = Journal(path), []
        for number in (3, 9, 0, 1):
            journal.ask("count", number, answer(number))
            seen.append(journal.recalling)
        assert seen == [True, False, True, True]
        journal.ask("count", 10, answer(10))
        assert not journal.recalling
        assert journal.recalled == 3

    def test_a_measurement_that_fails_leaves_no_line(self, path: Path) -> None:
        before = path.read_bytes()
        journal = Journal(path)
        for number in range(5):
            journal.ask("count", number, never)
        with pytest.raises(ZeroDivisionError):
            journal.ask("count", 5, lambda: {"value": 1 / 0})
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "value", [0.1, 1e-310, -0.0, 1 / 3, float("inf"), float("-inf"), None, 2**60, "Δloss\n"]
    )
    def test_plain_values_come_back_as_they_were(self, tmp_path: Path, value: object) -> None:
        path = tmp_path / "journal.jsonl"
        Journal(path).ask("one", (), answer(value))
        assert repr(Journal(path).ask("one", (), never)) == repr({"value": value})
        assert path.read_bytes().count(b"\n") == 1

    def test_without_a_file_nothing_is_kept(self) -> None:
        journal = Journal()
        given = [journal.ask("count", 0, answer(value))["value"] for value in (1, 2)]
        assert (given, journal.recalled, journal.recalling) == ([1, 2], 0, False)


class TestDamage:
    @pytest.mark.parametrize("kept", [1, 10, -1])
    def test_a_last_line_cut_short_is_dropped(self, path: Path, kept: int) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:4]) + lines[4][:kept])
        journal = Journal(path)
        assert path.read_bytes() == b"".join(lines[:4])
        for number in range(4):
            journal.ask("count", number, never)
        assert journal.ask("count", 4, answer("again")) == {"value": "again"}
        again = Journal(path)
        assert [again.ask("count", n, never)["value"] for n in range(5)] == [0, 1, 2, 3, "again"]

    def test_a_first_line_cut_short_leaves_an_empty_journal(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:5])
        assert not Journal(path).recalling
        assert path.read_bytes() == b""

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"nonsense",
            b'{"ask": "count", ',
            b"[1, 2]",
            b"null",
            b"7",
            b"\0\0\0",
            b"\xff\xfe",
            b'{"ask": "count", "reply": {}, "seconds": 0.1}',
            b'{"ask": "count", "of": "", "seconds": 0.1}',
        ],
    )
    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_a_damaged_line_is_named(self, path: Path, line: bytes, number: int) -> None:
        lines = path.read_bytes().splitlines()
        lines[number - 1] = line
        damaged = b"\n".join(lines) + b"\n"
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=rf"journal\.jsonl: line {number} is damaged"):
            Journal(path)
        assert path.read_bytes() == damaged

    @pytest.mark.parametrize("number", [1, 3, 5])
    def test_any_changed_byte_is_found(self, path: Path, number: int) -> None:
        """The line can still be read; only what it says is another."""
        lines = path.read_bytes().splitlines()
        digit = lines[number - 1].rindex(b'"seconds"') + len(b'"seconds": 0.0')
        changed = bytearray(lines[number - 1])
        changed[digit] = ord("1") if changed[digit] != ord("1") else ord("2")
        lines[number - 1] = bytes(changed)
        path.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.raises(RunError, match=rf"line {number} is damaged"):
            Journal(path)

    def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="cannot be read"):
            Journal(tmp_path)

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "gone" / "journal.jsonl")
        with pytest.raises(RunError, match="cannot be written"):
            journal.ask("count", 0, answer(0))


class TestClose:
    def test_nothing_more_is_appended(self, path: Path) -> None:
        journal, before = Journal(path), path.read_bytes()
        for number in range(5):
            journal.ask("count", number, never)
        journal.close()
        assert journal.ask("count", 5, answer("not kept")) == {"value": "not kept"}
        assert path.read_bytes() == before

    def test_what_is_recorded_is_still_recalled(self, path: Path) -> None:
        journal = Journal(path)
        journal.close()
        assert journal.ask("count", 0, never) == {"value": 0}


class TestSeconds:
    def test_add_up_over_sessions(self, path: Path) -> None:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        for number, line in enumerate(lines):
            del line["crc"]
            line["seconds"] = 10.0**number
            line["crc"] = zlib.crc32(json.dumps(line).encode())
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        journal = Journal(path)
        for number in range(5):
            journal.ask("count", number, never)
        assert journal.seconds == pytest.approx(11111, abs=1e-9)
        journal.ask("count", 5, answer(0))
        assert 11111 < journal.seconds < 11112

    def test_of_what_was_not_asked_for_yet_do_not_count(self, path: Path) -> None:
        assert Journal(path).seconds == 0

    def test_are_counted_without_a_file_too(self) -> None:
        journal = Journal()
        journal.ask("count", 0, answer(0))
        assert journal.seconds > 0


def arrays() -> st.SearchStrategy[NDArray[Any]]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return st.sampled_from(KINDS).flatmap(lambda kind: hnp.arrays(kind, shapes))


def assert_same(one: NDArray[Any], other: NDArray[Any]) -> None:
    assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


class TestArrays:
    @settings(max_examples=200, deadline=None)
    @given(array=arrays())
    def test_come_back_bit_for_bit(self, array: NDArray[Any]) -> None:
        assert_same(unpacked(json.loads(json.dumps(packed(array)))), array)

    @pytest.mark.parametrize("kind", [np.float64, np.float32])
    def test_nan_infinity_and_negative_zero(self, kind: type) -> None:
        values = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40], kind)
        assert_same(unpacked(packed(values)), values)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
    def test_shapes(self, kind: type, shape: tuple[int, ...]) -> None:
        assert_same(unpacked(packed(np.ones(shape, kind))), np.ones(shape, kind))

    def test_columns_and_other_byte_orders(self) -> None:
        values = np.arange(12.0).reshape(3, 4)
        for array in (values.T, values[:, ::2], values.astype(">f8"), np.asfortranarray(values)):
            assert unpacked(packed(array)).tolist() == array.tolist()

    def test_can_be_written_to(self) -> None:
        array = unpacked(packed(np.zeros(3)))
        array[0] = 1
        assert array.tolist() == [1, 0, 0]
