"""The wall from the host's side: what goes through, what does not, and that no call is lost."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacks import BENIGN, FIRST, NO_LANDLOCK, QUICK, SPACE, VIEW, altered_limits, left_in, works

from bilevel.mechanism import Mechanism
from bilevel.model import Decision, Draft, Fault, Layering, Move, Record, Trial
from bilevel.sandbox.errors import MechanismRaised, MechanismTimeout, SandboxRefused, WrongFrame
from bilevel.sandbox.host import Worker
from bilevel.sandbox.sandboxed import Sandbox, SandboxedMechanism
from bilevel.stack import Layer
from sources import BUSY, DENIED, ENDS, HEAD, NUDGE, RAISES, REACH, forbidden, hook
from worlds import Log, build

MOVES = [Move((0,))]
DRAFT = Draft(3, 0, Move((0,), tag="a"), {"RATE": 0.2}, "It may help.")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(QUICK, ring=False) as made:
        if made.level() == "weak":
            pytest.skip("this machine cannot lock a worker; see the level's report")
        yield made


@pytest.mark.parametrize("name", DENIED)
def test_what_is_forbidden_is_denied(name: str, sandbox: Sandbox) -> None:
    mechanism = sandbox.load(forbidden(DENIED[name]))
    with pytest.raises(MechanismRaised, match="PermissionError"):
        mechanism.plan(VIEW, MOVES)
    assert mechanism.state == {}
    mechanism.close()


@pytest.mark.parametrize("name", RAISES)
def test_a_broken_source_is_told_what_is_wrong(name: str, sandbox: Sandbox) -> None:
    source, words = RAISES[name]
    with pytest.raises(MechanismRaised, match=words):
        sandbox.load(source).plan(VIEW, MOVES)


@pytest.mark.parametrize("name", ENDS)
def test_a_hostile_source_ends_its_worker_only(
    name: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, kind = ENDS[name]
    hangs = kind is MechanismTimeout
    limits = replace(QUICK, call=0.3, wait=3.0) if hangs else replace(QUICK, call=20.0)
    monkeypatch.setattr(sandbox, "limits", limits)
    started: list[int] = []

    def use() -> None:
        mechanism = sandbox.load(source)
        started.append(mechanism.pid or 0)
        mechanism.plan(VIEW, MOVES)
        # A frame that nobody asked for is found at the next call at the latest.
        mechanism.plan(VIEW, MOVES)

    with pytest.raises(kind):
        use()
    if kind is not MechanismRaised:
        assert [left_in(p) for p in started] == [[] for _ in started]
    monkeypatch.undo()
    assert works(sandbox)


def test_the_view_arrives_whole(sandbox: Sandbox) -> None:
    source = f"""{HEAD}
class Shows(Mechanism):
    def plan(self, view, moves):
        self.seen = [view.step, view.slots, view.left, view.frozen, view.guidance, view.noise]
        self.seen += [view.pending[0].id, view.pending[0].values, view.trials[1].draft.hypothesis]
        self.seen += [view.incumbent is view.trials[0], view.best.score, view.space["RATE"].high]
        self.seen += [view.open(), view.rng.random(), view.trials[1].metrics]
        return moves
    def accept(self, view, trial, keep):
        return trial.score > view.best.score and not keep
"""
    second = replace(FIRST, id=1, draft=DRAFT, values={"RATE": 0.2}, score=2.5, role="search")
    rng = random.Random(5)
    expected = random.Random(5).random()
    view = replace(
        VIEW, trials=(FIRST, second), best=second, step=4, slots=2, left=9, pending=(DRAFT,),
        frozen=("RATE",), guidance="go on", noise=0.5, rng=rng,
    )  # fmt: skip
    mechanism = sandbox.load(source)
    assert mechanism.plan(view, MOVES) == MOVES
    seen = [4, 2, 9, ["RATE"], "go on", 0.5, 3, {"RATE": 0.2}, "It may help.", True, 2.5, 1.0]
    assert (mechanism.state or {})["seen"] == [*seen, [], expected, {"loss": 1.0}]
    assert mechanism.screen(view, [DRAFT]) == [DRAFT]
    assert mechanism.accept(view, replace(second, id=2, score=3.0), False) is True
    assert mechanism.accept(view, replace(second, id=2, score=1.0), False) is False
    mechanism.close()


def test_each_trial_is_sent_once_and_all_after_a_restart(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[int]] = []
    ask = Worker.ask

    def spy(worker: Worker, message: dict[str, Any], deadline: float) -> dict[str, Any]:
        if message["op"] == "call":
            sent.append([t.id for t in message["trials"]])
        return ask(worker, message, deadline)

    monkeypatch.setattr(Worker, "ask", spy)
    trials: tuple[Trial, ...] = (FIRST,)
    mechanism = sandbox.load(NUDGE)
    for i in (1, 2, 3):
        trials = (*trials, replace(FIRST, id=i))
        (move,) = mechanism.plan(replace(VIEW, trials=trials), MOVES)
        assert move.note == f"after {i}"
    mechanism.close()
    mechanism.plan(replace(VIEW, trials=trials), MOVES)
    mechanism.plan(replace(VIEW, trials=(FIRST, replace(FIRST, id=9))), MOVES)
    assert sent == [[0, 1], [2], [3], [0, 1, 2, 3], [0, 9]]
    mechanism.close()


def in_process(source: str) -> Mechanism:
    """The same source, without a wall."""
    names: dict[str, Any] = {"__name__": "generated"}
    exec(source, names)
    kinds = [k for k in names.values() if isinstance(k, type) and k.__module__ == "generated"]
    made: Mechanism = kinds[0]()
    return made


def records(first: Mechanism, second: Mechanism) -> list[Record]:
    """The log of a run with two layers, without times."""
    log = Log()
    build(log, evals=4, layers=[Layer("aa", "busy", first), Layer("bb", "nudge", second)]).go()
    return [replace(r, ms=0.0) if isinstance(r, Decision) else r for r in log]


class Killed(SandboxedMechanism):
    """Its worker, and the spare, are killed before every call."""

    def _call(self, hook: str, view: Any, given: object, trial: Trial | None = None) -> Any:
        for worker in (self._worker, *self._sandbox._spares.values()):
            if worker is not None:
                os.kill(worker.pid, signal.SIGKILL)
        return super()._call(hook, view, given, trial)


def test_a_worker_killed_before_every_call_changes_no_decision(sandbox: Sandbox) -> None:
    alive = [sandbox.load(BUSY), sandbox.load(NUDGE)]
    expected = records(*alive)
    assert not [r for r in expected if isinstance(r, Fault | Layering)]
    assert len([r for r in expected if isinstance(r, Decision)]) > 15
    killed = [Killed(sandbox, BUSY, ()), Killed(sandbox, NUDGE, ())]
    assert records(*killed) == expected
    assert killed[0].state == alive[0].state
    assert killed[0].starts > 10
    assert [m.starts for m in alive] == [1, 1]
    for mechanism in (*alive, *killed):
        mechanism.close()


def test_the_wall_changes_no_decision(sandbox: Sandbox) -> None:
    source = BUSY.replace('first, *rest = {"RATE", "BATCH", "PATTERN"}', 'first = "RATE"')
    walled = [sandbox.load(source), sandbox.load(NUDGE)]
    assert records(*walled) == records(in_process(source), in_process(NUDGE))
    for mechanism in walled:
        mechanism.close()


def test_faults_are_logged_and_the_run_ends_as_it_should(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "limits", replace(QUICK, call=1.0))
    source = f"""{HEAD}
class Fails(Mechanism):
    def __init__(self):
        self.n = 0
    def plan(self, view, moves):
        self.n += 1
        if view.step == 1: return 1 / 0
        if view.step == 3:
            while True: pass
        if view.step == 4: return [1]
        return [Move((0,), note=str(self.n))]
"""
    log = Log()
    mechanism = sandbox.load(source)
    stop = build(log, evals=6, layers=[Layer("aa", "fails", mechanism)]).go()
    assert stop.reason == "done"
    faults = [(r.step, r.kind) for r in log if isinstance(r, Fault)]
    assert faults == [(1, "MechanismRaised"), (3, "MechanismTimeout"), (4, "MechanismRaised")]
    notes = [r.after for r in log if isinstance(r, Decision) and r.hook == "plan"]
    assert [re.findall(r'"note": "(\d)"', n) for n in notes] == [["1"], ["2"]]
    assert mechanism.state == {"n": 2}, "a failed call leaves no trace in the state"
    mechanism.close()


def test_a_wall_that_does_not_stand_is_refused() -> None:
    stub = "\ndef apply_landlock():\n    pass\ndef apply_seccomp():\n    pass\n"
    with altered_limits(stub):
        with Sandbox(QUICK) as sandbox, pytest.raises(SandboxRefused, match="open went through"):
            sandbox.load(BENIGN)
        with Sandbox(QUICK, allow_weak=True) as sandbox:
            mechanism = sandbox.load(BENIGN)
            assert mechanism.level == sandbox.level() == "weak"
            assert mechanism.plan(VIEW, MOVES) == MOVES


def test_one_stubbed_half_is_refused_as_well() -> None:
    with altered_limits("\ndef apply_seccomp():\n    pass\n"), Sandbox(QUICK) as sandbox:
        with pytest.raises(SandboxRefused, match="does not lock a worker"):
            sandbox.load(BENIGN)
        assert sandbox.level() == "weak"


def test_without_landlock_the_level_is_strict() -> None:
    with altered_limits(NO_LANDLOCK), Sandbox(QUICK, ring=False) as sandbox:
        assert sandbox.load(BENIGN).level == "strict"


def test_a_kernel_without_seccomp_is_refused_by_what_it_said() -> None:
    code = "\ndef apply_seccomp():\n    raise OSError(38, 'no seccomp here')\n"
    with (
        altered_limits(code),
        Sandbox(QUICK) as sandbox,
        pytest.raises(SandboxRefused, match="no seccomp here"),
    ):
        sandbox.load(BENIGN)


def test_a_worker_that_does_not_start_says_why() -> None:
    with (
        altered_limits("\nraise RuntimeError('no start today')\n"),
        Sandbox(QUICK) as sandbox,
        pytest.raises(SandboxRefused, match="no start today"),
    ):
        sandbox.load(BENIGN)


def test_a_source_may_not_be_endless(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxRefused, match="65536 bytes"):
        sandbox.load(BENIGN + "#" * 70_000)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the worker through /proc")
def test_a_worker_holds_nothing_of_the_host(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "sk-canary")
    with Sandbox(QUICK) as fresh:
        mechanism = fresh.load(BENIGN)
        proc = Path(f"/proc/{mechanism.pid}")
        assert b"SECRET" not in (proc / "environ").read_bytes()
        assert b"canary" not in (proc / "cmdline").read_bytes()
        targets = [str(p.readlink()) for p in (proc / "fd").iterdir()]
        assert len(targets) == 5
        assert sum(t.startswith("pipe:") for t in targets) == 2
        assert "/dev/null" in targets
        status = (proc / "status").read_text()
        assert re.search(r"Seccomp:\s+2", status)
        assert re.search(r"NoNewPrivs:\s+1", status)
        assert re.search(r"CapEff:\s+0+\n", status)
        assert not re.search(r"Uid:\s+0\s", status)


def test_many_calls_and_restarts_leave_no_descriptors(sandbox: Sandbox) -> None:
    mechanism = sandbox.load(BENIGN)
    mechanism.close()
    mechanism.plan(VIEW, MOVES)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(300):
        if i % 100 == 0:
            mechanism.close()
        mechanism.plan(VIEW, MOVES)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert mechanism.state == {"n": 301}
    mechanism.close()


def test_time_that_a_worker_did_not_get_is_not_held_against_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mechanism = sandbox.load(BENIGN)
    pid = mechanism.pid or 0
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(sandbox, "limits", replace(QUICK, call=0.3))
    threading.Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()
    assert mechanism.plan(VIEW, MOVES) == MOVES
    mechanism.close()


def test_a_worker_that_computes_without_end_is_a_timeout(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mechanism = sandbox.load(hook("while True: pass"))
    monkeypatch.setattr(sandbox, "limits", replace(QUICK, call=0.3))
    with pytest.raises(MechanismTimeout, match=r"plan gave no answer in 0.3 s of CPU time;"):
        mechanism.plan(VIEW, MOVES)


def test_a_stopped_worker_is_a_timeout(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    mechanism = sandbox.load(BENIGN)
    os.kill(mechanism.pid or 0, signal.SIGSTOP)
    monkeypatch.setattr(sandbox, "limits", replace(QUICK, wait=0.3))
    with pytest.raises(MechanismTimeout, match=r"plan gave no answer in 0.3 s;"):
        mechanism.plan(VIEW, MOVES)
    monkeypatch.undo()
    assert mechanism.plan(VIEW, MOVES) == MOVES
    mechanism.close()


def test_an_error_text_is_made_harmless(sandbox: Sandbox) -> None:
    source = hook("raise ValueError('\\x1b[2J\\x00' + 'x' * 10**6)")
    with pytest.raises(MechanismRaised) as caught:
        sandbox.load(source).plan(VIEW, MOVES)
    assert str(caught.value).startswith("ValueError: ?[2J?xxx")
    assert len(str(caught.value)) <= 2000


def test_an_answer_is_checked_by_the_host_too(sandbox: Sandbox) -> None:
    body = '{"id":2,"answer":[{"focus":[]}],"state":{}}'
    frame = len(body).to_bytes(4, "little") + body.encode()
    source = hook(
        f"put({frame!r})\nwhile True: pass",
        REACH,
    )
    with pytest.raises(WrongFrame, match="expected a Move"):
        sandbox.load(source).plan(VIEW, MOVES)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_host_that_is_killed_takes_its_workers_along() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from attacks import *\n"
        "sandbox = Sandbox(QUICK); mechanism = sandbox.load(BENIGN)\n"
        "spares = [w.pid for w in sandbox._spares.values() if w.wait_ready()]\n"
        "print(*map(os.getsid, [mechanism.pid, *spares]), flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        workers = list(map(int, host.stdout.readline().split()))
        host.kill()
        host.wait()
    assert [left_in(w) for w in workers] == [[], []], "a worker outlived its host"


def test_libraries_that_are_installed_can_be_used(sandbox: Sandbox) -> None:
    pytest.importorskip("numpy")
    source = hook(
        "x = np.linalg.solve(np.eye(2) * 2, np.ones(2))\n"
        "self.x = x\nself.n = np.int64(3)\n"
        "return [Move((0,), values={'RATE': np.float64(x[0])})]",
        "import numpy as np",
    )
    mechanism = sandbox.load(source)
    (move,) = mechanism.plan(VIEW, MOVES)
    assert move.values == {"RATE": 0.5}
    assert type(dict(move.values or {})["RATE"]) is float
    assert mechanism.state == {"x": [0.5, 0.5], "n": 3}
    mechanism.close()
    assert SPACE.check(move.values or {}) == {"RATE": 0.5}


def test_a_worker_collects_garbage_once_it_has_started() -> None:
    body = "self.on = typing.sys.modules['gc'].isenabled()\nreturn moves"
    with Sandbox(QUICK) as sandbox:
        mechanism = sandbox.load(hook(body, "import typing\n"))
        mechanism.plan(VIEW, MOVES)
        assert mechanism.state == {"on": True}
