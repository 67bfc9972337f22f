"""The one loop over batches: their sizes, what fills them up, their order, what waits."""

import threading
from threading import Event, Thread

import numpy as np
import pytest
from onnx import parser

from onnxsemi._errors import ModelError
from onnxsemi._runtime.runner import Batch, InOrder, Runner, padded
from onnxsemi._runtime.sessions import Session

COUNT = 7


class TestBatches:
    @pytest.mark.parametrize(
        ("count", "batch", "sizes"),
        [(70, None, [32, 32, 6]), (32, None, [32]), (5, 2, [2, 2, 1]), (3, 1, [1, 1, 1])],
    )
    def test_sizes(self, count, batch, sizes):
        with Runner(batch, threads=1) as runner:
            found = runner.batches(count, 32)
        assert [len(batch) for batch in found] == sizes
        assert [batch.start for batch in found] == np.cumsum([0, *sizes[:-1]]).tolist()

    def test_no_more_than_the_memory_allows(self):
        with Runner(None, 1, lambda most: min(most, 3)) as runner:
            assert [len(batch) for batch in runner.batches(7, 32)] == [3, 3, 1]
        with Runner(4, 1, lambda most: min(most, 3)) as runner:  # the model's own is no choice
            assert [len(batch) for batch in runner.batches(7, 32)] == [4, 3]

    def test_a_part_is_cut_where_it_lies(self):
        assert Batch(32, 40).cut(5) == [Batch(32, 37), Batch(37, 40)]
        assert Batch(8, 8).cut(5) == []

    def test_padding_repeats_the_last_row(self):
        rows = np.arange(6).reshape(2, 3)
        assert padded(rows, 4)[1:].tolist() == [[3, 4, 5]] * 3
        assert padded(rows, None) is rows


class TestMap:
    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_results_in_order(self, threads):
        with Runner(None, threads) as runner:
            assert list(runner.map(lambda n: n * n, range(20))) == [n * n for n in range(20)]

    @pytest.mark.parametrize("ahead", [1, 2])
    def test_no_more_wait_than_are_asked_for(self, ahead):
        begun, lock = [], threading.Lock()

        def work(number):
            with lock:
                begun.append(number)
            return number

        with Runner(None, 4) as runner:
            for number in runner.map(work, range(9), ahead):
                assert max(begun) < number + ahead

    def test_an_error_is_raised_and_the_rest_left(self):
        begun = []

        def work(number):
            begun.append(number)
            raise ValueError(f"of {number}")

        with pytest.raises(ValueError, match="of 0"), Runner(None, 1) as runner:
            list(runner.map(work, range(9)))
        assert begun == [0]


class TestInOrder:
    @pytest.mark.parametrize("numbers", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
    def test_whatever_order_they_come_in(self, numbers):
        taken = []
        turns = InOrder(taken.append)
        for number in numbers:
            turns.give(number, number)
        assert taken == [0, 1, 2, 3]

    def test_nobody_waits_for_whoever_takes(self):
        """What comes while another is taken is left there, and taken by the same thread."""
        taken, takes, go_on = [], Event(), Event()

        def take(number):
            takes.set()
            assert go_on.wait(10)
            taken.append((number, threading.current_thread()))

        turns = InOrder(take)
        thread = Thread(target=turns.give, args=(0, 0))
        thread.start()
        assert takes.wait(10)
        turns.give(1, 1)
        assert not taken
        go_on.set()
        thread.join(10)
        assert taken == [(0, thread), (1, thread)]

    def test_from_many_threads(self):
        taken, numbers = [], range(200)
        turns = InOrder(taken.append)
        with Runner(None, 4) as runner:
            list(runner.map(lambda number: turns.give(number, number), numbers, 50))
        assert taken == list(numbers)


def doubling(batch):
    """Doubles rows, adds up two rows an image, and gives a constant beside them."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    doubling (float[{batch},2] x, float[M,2] pairs) => (float[{batch},2] y, float[3] c)
    <int64[3] two = {{-1, 2, 2}}, float[3] three = {{1.0, 2.0, 3.0}}>
    {{
        each = Reshape (pairs, two)
        sums = ReduceSum <keepdims = 0> (each, axis)
        y = Add (x, sums)
        c = Identity (three)
    }}"""
    text = text.replace("<int64[3] two", "<int64[1] axis = {1}, int64[3] two")
    return Session(parser.parse_model(text).SerializeToString())


@pytest.mark.parametrize("batch", [None, 4, 8])
def test_runs_with_several_rows_an_image(batch):
    session, (x, pairs) = (
        doubling(batch or "N"),
        np.split(np.arange(6 * 4, dtype=np.float32).reshape(12, 2), [4]),
    )
    for count in (1, 2, 4):
        with Runner(batch, threads=1) as runner:
            found = runner.run(session, {"x": x[:count], "pairs": pairs[: 2 * count]})
        expected = x[:count] + pairs[: 2 * count].reshape(-1, 2, 2).sum(axis=1)
        assert found["y"].tolist() == expected.tolist()
        assert found["c"].tolist() == [1, 2, 3]


def rows_of(batch):
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    doubled (float[{batch},2] x) => (float[{batch},2] y) {{ y = Add (x, x) }}"""
    return Session(parser.parse_model(text).SerializeToString())


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_all_rows_however_many_fit(batch, threads):
    x, session = np.arange(2 * COUNT, dtype=np.float32).reshape(-1, 2), rows_of(batch or "N")
    with Runner(batch, threads, lambda most: min(most, 2)) as runner:
        for found in (
            runner.run_rows(session, {"x": x}),
            runner.run_rows(session, {"x": x}, 1),
            runner.spread_rows(session, {"x": x}),
        ):
            assert found["y"].tolist() == (2 * x).tolist()


def test_outputs_put_where_they_belong():
    """Inputs need not be one piece of memory; what is around the rows stays as it is."""
    session, x = rows_of("N"), np.arange(12, dtype=np.float32).reshape(6, 2)
    found = np.full((5, 2), -1, np.float32)
    session.run_into({"x": x[::2]}, {"y": found[1:4]})
    assert found.tolist() == [[-1, -1], *(2 * x[::2]).tolist(), [-1, -1]]


def test_no_place_for_the_outputs():
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the model"):
        rows_of("N").run_into({"x": np.ones((3, 2), np.float32)}, {"y": np.ones((2, 2), "f4")})
