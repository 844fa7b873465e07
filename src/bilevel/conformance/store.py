"""What every store keeps to."""

from __future__ import annotations

import math
import threading
from contextlib import closing
from pathlib import Path

from bilevel.conformance import refuses
from bilevel.errors import RunBusy, RunNotFound, StoreError
from bilevel.model import Draft, Move, Objective, Param, Run, Space, Steering, Stop, Trial, Values
from bilevel.protocols import Store

VALUES: Values = {"i": 1, "f": 1.0, "s": "1", "t": True, "big": 2**70, "text": "a\n\x00é\u2028"}


def run(name: str = "gpt-1", created: str = "2026-01-01T00:00:00+00:00") -> Run:
    """A run of that name."""
    space = Space((Param("i", "int", 1, low=1, high=8), Param("s", "choice", "1", choices=("1",))))
    return Run(name, "gpt", space, Objective("loss"), "brief", 3, 30, created=created)


def trial(id: int, score: float | None = -1.5) -> Trial:
    """A trial with values of every type."""
    draft = Draft(id, id, Move(parents=(0,), values=VALUES), VALUES, "why")
    return Trial(id, draft, VALUES, "ok" if score else "crash", score, {"x": 1.5}, 2.5, 7, True)


class StoreSuite:
    """`store` opens the store kept in a folder: a new one in an empty folder, else the same."""

    def store(self, folder: Path) -> Store:
        raise NotImplementedError

    def test_a_run_comes_back_as_it_was_entered(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            assert store.run("gpt-1") == run()

    def test_runs_come_oldest_first(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            assert store.runs() == []
            later, earlier = run("a", "2026-02-01"), run("b", "2026-01-01")
            store.create(later)
            store.create(earlier)
            assert store.runs() == [earlier, later]

    def test_a_name_is_entered_once(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            with refuses(StoreError):
                store.create(run(created="2026-02-01"))
            assert store.runs() == [run()]

    def test_an_unknown_run_is_refused_by_every_method(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            with refuses(RunNotFound):
                store.run("nope")
            with refuses(RunNotFound):
                store.append("nope", Stop(1, "done"))
            with refuses(RunNotFound):
                store.read("nope", Stop)

    def test_records_are_numbered_from_0_within_each_run(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run("a"))
            store.create(run("b"))
            numbers = [store.append(name, Stop(1, "done")) for name in "aababb"]
            assert numbers == [0, 1, 0, 2, 1, 2]

    def test_records_come_back_equal_by_kind_and_in_order(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            for i in range(4):
                store.append("gpt-1", trial(i))
                store.append("gpt-1", Steering(("i",), "less", "exploit", i))
            assert list(store.read("gpt-1", Trial)) == [(2 * i, trial(i)) for i in range(4)]
            assert [n for n, _ in store.read("gpt-1", Steering, since=3)] == [3, 5, 7]
            assert list(store.read("gpt-1", Stop)) == []

    def test_values_keep_their_types(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            store.append("gpt-1", trial(0))
            ((_, back),) = store.read("gpt-1", Trial)
            assert {k: repr(v) for k, v in back.values.items()} == {
                k: repr(v) for k, v in VALUES.items()
            }

    def test_many_records_are_read_whole_while_others_are_added(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            for i in range(600):
                store.append("gpt-1", Stop(i, "done"))
            reading = store.read("gpt-1", Stop)
            next(reading)
            store.append("gpt-1", Stop(600, "done"))
            steps = [stop.step for _, stop in reading]
            assert steps[:599] == list(range(1, 600))

    def test_another_opening_of_the_store_sees_all(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store, closing(self.store(tmp_path)) as other:
            store.create(run())
            for i in range(3):
                store.append("gpt-1", trial(i))
                assert len(list(other.read("gpt-1", Trial))) == i + 1
            assert other.append("gpt-1", Stop(3, "done")) == 3

    def test_a_record_that_cannot_be_kept_leaves_no_gap(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            store.append("gpt-1", trial(0))
            with refuses(StoreError):
                store.append("gpt-1", trial(1, score=math.nan))
            assert store.append("gpt-1", trial(1)) == 1

    def test_one_writer_a_run(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store, closing(self.store(tmp_path)) as other:
            store.create(run("a"))
            store.create(run("b"))
            with store.writing("a"), other.writing("b"), refuses(RunBusy), other.writing("a"):
                raise AssertionError("two writers of one run")
            with other.writing("a"):
                other.append("a", Stop(1, "done"))

    def test_the_right_to_write_ends_with_an_error_too(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            with refuses(KeyError), store.writing("gpt-1"):
                raise KeyError("the writer failed")
            with store.writing("gpt-1"):
                store.append("gpt-1", Stop(1, "done"))

    def test_threads_may_read_while_one_writes(self, tmp_path: Path) -> None:
        with closing(self.store(tmp_path)) as store:
            store.create(run())
            seen: list[list[int]] = [[], [], []]
            done = threading.Event()

            def read(numbers: list[int]) -> None:
                while not done.is_set():
                    numbers += [n for n, _ in store.read("gpt-1", Stop, since=len(numbers))]
                numbers += [n for n, _ in store.read("gpt-1", Stop, since=len(numbers))]

            readers = [threading.Thread(target=read, args=(numbers,)) for numbers in seen]
            for reader in readers:
                reader.start()
            try:
                for i in range(100):
                    store.append("gpt-1", Stop(i, "done"))
            finally:
                done.set()
                for reader in readers:
                    reader.join()
            assert seen == [list(range(100))] * 3

    def test_closing_twice_is_fine(self, tmp_path: Path) -> None:
        store = self.store(tmp_path)
        store.close()
        store.close()
