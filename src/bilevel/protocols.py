"""The edges of the system: what a task, an LLM, an executor and a store promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from bilevel.model import Job, JobResult, Message, Objective, Outcome, Record, Reply, Run, Values
from bilevel.space import Space

R = TypeVar("R", bound=Record)
Schema = dict[str, Any]


class Task(Protocol):
    """What is optimised. It never says where it runs.

    baselines, confirms: how often noise asks for the baseline and the winner to be measured.
    """

    @property
    def name(self) -> str: ...

    @property
    def space(self) -> Space: ...

    @property
    def objective(self) -> Objective: ...

    @property
    def baselines(self) -> int: ...

    @property
    def confirms(self) -> int: ...

    @property
    def seeded(self) -> bool:
        """Whether `seed` changes the job; if not, repeats measure run-to-run noise only."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether the same values and seed give the same metric to the last bit."""
        ...

    def brief(self) -> str:
        """What a proposer must know: the goal, the fixed rules, in a few lines."""
        ...

    def job(self, values: Values, seed: int) -> Job:
        """The job that evaluates `values`; pure. Raises InvalidCandidate with the rule broken."""
        ...

    def read(self, result: JobResult) -> Outcome:
        """What the job measured; pure. A crash or a missing metric is an outcome, no exception."""
        ...


class InlineTask(Task, Protocol):
    """A task that is quick and trusted enough to be evaluated in the program's own process."""

    def call(self, values: Values, seed: int) -> Outcome:
        """What `read` says of the job. Lets through what the function raises, as a bug in it."""
        ...


class LLM(Protocol):
    """A language model. `name` identifies model and settings in the log and in the tape's keys."""

    name: str

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """One completion, as JSON that fits `schema` where one is given. Raises LLMError only.

        A reply that ended as TOO_LONG or UNUSABLE holds no answer; the tape asks again.
        """
        ...

    def close(self) -> None:
        """Free what it holds (connections, a server of its own). May be called twice."""
        ...


class Executor(Protocol):
    """Runs jobs, up to `slots` at a time. A failing job is a JobResult, never an exception."""

    slots: int

    def submit(self, key: int, job: Job) -> None:
        """Start a job. Raises ExecutorError when all slots are taken or it cannot be started."""
        ...

    def wait(self, timeout: float) -> list[tuple[int, JobResult]]:
        """Jobs that ended within `timeout` seconds, in order of ending; empty if none did."""
        ...

    def close(self) -> None:
        """Kill what still runs, with all its children. May be called twice."""
        ...


class Store(Protocol):
    """Append-only records of runs: one writer a run, any number of readers, safe against kill -9.

    A record is durable when `append` returns. Records of a run are numbered from 0 without gaps.
    """

    def create(self, run: Run) -> None:
        """Enter a new run. Raises StoreError if its id exists."""
        ...

    def run(self, run: str) -> Run:
        """The run as it was started. Raises RunNotFound."""
        ...

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        ...

    def writing(self, run: str) -> AbstractContextManager[None]:
        """Hold the right to append to a run. Raises RunBusy while another process has it."""
        ...

    def append(self, run: str, record: Record) -> int:
        """Add a record; its number. Raises RunNotFound."""
        ...

    def read(self, run: str, kind: type[R], since: int = 0) -> Iterator[tuple[int, R]]:
        """Records of one kind with their numbers, from number `since` on. Raises RunNotFound."""
        ...

    def close(self) -> None: ...
