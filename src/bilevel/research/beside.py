"""A session of Level 2 beside the inner loop, in a thread of its own.

It begins before a step and knows the log up to there, no more: its history, its stack, its known
mechanisms are made from that. While the loop goes on, all that it adds to the log are its calls.
It lands before a later step, where its record stands and what it decided holds: the first step at
which it is done; at the latest where the next session is due, where the search stands still, or
after the last evaluation, and then the loop waits for it. When it lands is a fact of the run, kept
in its record; what it says follows from the log at its beginning. So a replay holds it where it
landed, and a run that was killed begins it again, its paid replies from the tape.

The gate, too, judges on the log at the beginning. What it proves of the code (it parses, loads,
conforms) rests on no stack. What it forecasts (influence, harm) it forecasts for a stack that can
only have lost layers by the landing, as none joins but by a session, and one is held at a time.
Where the forecast was wrong, probation takes the layer out, as it does when the two take turns.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

from bilevel.errors import BilevelError
from bilevel.loop import Loop
from bilevel.model import Begun, Message, Record, Reply, Session, Stop
from bilevel.protocols import LLM, Schema

GRACE = 1.0  # seconds that a session has to clear up in when the user presses Ctrl-C

__all__ = ["Accompanied", "Beside", "Fence", "Hold", "InTurn"]


@dataclass
class Fence:
    """Between a session and the run: once the run has come to a stop nothing passes any more.

    append: makes a record part of the log. lock: held while it does. asking: whether the session
    is with its LLM, and not in the gate. ending: no call is made any more. closed: nor is anything
    logged.
    """

    append: Callable[[Record], object]
    lock: AbstractContextManager[object]
    asking: bool = False
    ending: bool = False
    closed: bool = False

    def ask(self) -> None:
        """Before a call. Raises KeyboardInterrupt where the run comes to a stop."""
        if self.ending:
            raise KeyboardInterrupt
        self.asking = True

    def judge(self) -> None:
        """Before the gate."""
        self.asking = False

    def log(self, record: Record) -> None:
        """A record of the session into the log. Raises KeyboardInterrupt where the run is left."""
        with self.lock:
            if self.closed:
                raise KeyboardInterrupt
            self.append(record)


Hold = Callable[[Begun, Sequence[Record], Fence], Session]


class _Held(threading.Thread):
    """One session. It is no hindrance to the end of the process, whatever it waits for."""

    def __init__(self, hold: Hold, begun: Begun, records: Sequence[Record], fence: Fence) -> None:
        super().__init__(name=f"session before step {begun.step}", daemon=True)
        self.begun = begun
        self.fence = fence
        self.over = threading.Event()
        self.error: BaseException | None = None
        self._hold = partial(hold, begun, records, fence)
        self._session: Session | None = None

    def run(self) -> None:
        """Hold it; an error waits for `result`. One that is a bug is shown here as well."""
        try:
            self._session = self._hold()
        except (BilevelError, KeyboardInterrupt) as error:
            self.error = error
        finally:
            self.error = self.error or sys.exc_info()[1]
            self.over.set()

    def result(self) -> Session:
        """What came of it, once it is over. Raises what it raised."""
        if not self.ident:
            self._session = self._hold()  # in the thread that asks, as in a replay
        else:
            self.over.wait()
        if self.error is not None:
            raise self.error
        assert self._session is not None
        return self._session

    def interrupt(self) -> None:
        """Have Ctrl-C reach its LLM, so that an agent's process ends; a worker ends with ours."""
        if self.over.is_set() or not self.fence.asking:
            return
        assert self.ident is not None
        raised = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), raised)


@dataclass
class Beside:
    """The session that is held beside the loop, if any. A context: on leaving it none is held.

    hold: holds one on a log. append, lock: as for Fence. landings: by the step before which a
    session began the one before which it landed, where that is on record. threaded: whether one is
    held while the loop goes on; else as it lands, which comes to the same record.
    """

    hold: Hold
    append: Callable[[Record], object]
    lock: AbstractContextManager[object]
    landings: Mapping[int, int]
    threaded: bool
    _held: _Held | None = field(default=None, init=False)
    _going: bool = field(default=False, init=False)

    @property
    def begun(self) -> Begun | None:
        """The beginning of the session that is held now."""
        return None if self._held is None else self._held.begun

    @property
    def done(self) -> bool:
        """Whether nothing has to be waited for."""
        return self._held is None or self._held.over.is_set()

    def begin(self, begun: Begun, records: Sequence[Record]) -> None:
        """Begin one on these records; in an earlier part of the run or now."""
        assert self._held is None, "one session is held at a time"
        self._held = _Held(self.hold, begun, records, Fence(self.append, self.lock))
        self._start()

    def ready(self, step: int) -> bool:
        """Whether the one that is held lands before this step, for all that it knows itself."""
        if self._held is None:
            return False
        if self._held.begun.step in self.landings and self._held.error is None:
            return step >= self.landings[self._held.begun.step]
        return self.done

    def land(self) -> Session:
        """What came of it, waited for if need be. Raises LLMError and all else that it raised."""
        assert self._held is not None
        session = self._held.result()
        self._held = None
        return session

    def pause(self) -> None:
        """Come to a stop with the call that is under way, as its reply is paid for."""
        if self._held is not None and self._held.ident:
            self._held.fence.ending = True
            self._held.over.wait()

    def leave(self) -> None:
        """Come to a stop at once; nothing that is under way gets into the log any more."""
        if self._held is None or not self._held.ident:
            return
        with self.lock:
            self._held.fence.ending = self._held.fence.closed = True
        self._held.interrupt()
        self._held.over.wait(GRACE)

    def __enter__(self) -> Beside:
        self._going = True
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not isinstance(error, KeyboardInterrupt):
                self.pause()
        finally:
            self.leave()
        own = self._held.error if self._held is not None else None
        if error is not None and isinstance(own, BilevelError) and own is not error:
            error.add_note(f"the session beside it failed as well: {own}")

    def _start(self) -> None:
        if self._held is not None and self._going and self.threaded:
            self._held.start()


@dataclass
class Accompanied(Loop):
    """The inner loop with sessions beside it. land: has the one that is held land."""

    beside: Beside = field(kw_only=True)
    land: Callable[[], None] = lambda: None

    def go(self) -> Stop:
        """As the inner loop's; what a session raises is raised here, between two steps."""
        with self.beside:
            return super().go()

    def _log(self, record: Record) -> None:
        if isinstance(record, Stop) and record.reason == "done":
            self.land()
        elif isinstance(record, Stop):
            self.beside.pause()
        super()._log(record)


class InTurn:
    """A model that threads ask one after the other, where it answers one request at a time."""

    def __init__(self, llm: LLM) -> None:
        self.name = llm.name
        self.room: int = getattr(llm, "room", 0)
        self._llm = llm
        self._turn = threading.Lock()

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None = None,
        *,
        seed: int,
        max_tokens: int,
    ) -> Reply:
        """The model's reply. Raises LLMError as the model does."""
        with self._turn:
            return self._llm.complete(messages, schema, seed=seed, max_tokens=max_tokens)

    def close(self) -> None:
        self._llm.close()
