"""What the wall costs: start of a worker, a call, and three layers at 100 and 10,000 trials.

    python benchmarks/sandbox.py

Prints medians in milliseconds and, in brackets, the goals; without bubblewrap, then inside it,
then in WebAssembly guests where their library is installed and compiled.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from bilevel.mechanism import View
from bilevel.model import Draft, Move, Param, Space, Trial
from bilevel.sandbox import wasm
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.stack import Layer, Stack

SPACE = Space(
    (
        Param("RATE", "float", 0.1, low=0.001, high=1.0, log=True),
        Param("BATCH", "int", 4096, low=256, high=65536, log=True, step=2),
        *(Param(f"P{i}", "float", 0.5, low=0.0, high=1.0) for i in range(12)),
    )
)
SOURCE = """
from bilevel.mechanism import Mechanism
class Notes(Mechanism):
    def __init__(self):
        self.n = 0
    def plan(self, view, moves):
        self.n += 1
        return moves
    def screen(self, view, drafts):
        return drafts
    def accept(self, view, trial, keep):
        return keep
"""


def milliseconds(work: Callable[[], object]) -> float:
    """Time of a call."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def median(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call."""
    return statistics.median(milliseconds(work) for _ in range(repeats))


def history(count: int) -> tuple[Trial, ...]:
    """As many trials as that, each with a draft."""
    values = SPACE.defaults()
    draft = Draft(0, 0, Move((0,), focus=("RATE",), tag="RATE"), values, "Smaller may help.")
    metrics = {"loss": 1.5, "steps": 100.0}
    first = Trial(0, draft, values, "ok", -1.5, metrics, 3.0, 0, False)
    return tuple(replace(first, id=i, draft=replace(draft, id=i, step=i)) for i in range(count))


def started(sandbox: Sandbox) -> float:
    """Time from the start of a worker to its lock's report."""
    begin = time.perf_counter()
    worker = sandbox.start(())
    worker.wait_ready()
    taken = 1000 * (time.perf_counter() - begin)
    worker.kill()
    return taken


def evaluation(stack: Stack, trials: list[Trial]) -> None:
    """The calls of one step: plan, screen, accept, with one more trial than before."""
    values = SPACE.defaults()
    seen = tuple(trials)
    view = View(SPACE, seen, seen[0], seen[0], step=len(seen))
    moves = stack.plan(view, [Move((0,))])
    draft = Draft(len(seen), len(seen), moves[0], values)
    stack.screen(view, [draft])
    trial = replace(seen[-1], id=len(seen), draft=draft)
    stack.accept(view, trial, False)
    trials.append(trial)


def layered(sandbox: Sandbox, count: int) -> Callable[[], None]:
    """An evaluation with three sandboxed layers, after so many trials."""
    made = [Layer(str(i), "notes", sandbox.load(SOURCE)) for i in range(3)]
    stack, trials = Stack(made, 0, lambda record: None), list(history(count))
    evaluation(stack, trials)  # the one that sends the history
    assert len(stack.layers) == 3
    return lambda: evaluation(stack, trials)


def layers(sandbox: Sandbox) -> tuple[float, float]:
    """Median time that three layers add to an evaluation after 100 and after 10,000 trials.

    The two take turns, so that a machine's drift favours neither.
    """
    few, many = layered(sandbox, 100), layered(sandbox, 10_000)
    pairs = [(milliseconds(few), milliseconds(many)) for _ in range(200)]
    early, late = (statistics.median(times) for times in zip(*pairs, strict=True))
    return early, late


def measure(sandbox: Sandbox) -> None:
    """Print the figures of one level."""
    print(f"level            {sandbox.level()}, load {os.getloadavg()[0]:.1f}")
    print(f"start            {statistics.median(started(sandbox) for _ in range(50)):.1f} ms [100]")
    first = history(1)
    view, mechanism = View(SPACE, first, first[0], first[0], 0), sandbox.load(SOURCE)
    call = median(lambda: mechanism.plan(view, [Move((0,))]), 500)
    print(f"call             {call:.2f} ms [1]")
    few, many = layers(sandbox)
    print(f"3 layers,   100  {few:.2f} ms an evaluation [15]")
    print(f"3 layers, 10000  {many:.2f} ms an evaluation, ratio {many / few:.2f} [1.5]")


def main() -> None:
    for ring in (False, True):
        with Sandbox(ring=ring) as sandbox:
            measure(sandbox)
            if ring and sandbox.no_ring:
                print(f"no outer ring: {sandbox.no_ring}")
    if wasm.installed() and wasm.compiled():
        with Sandbox(wall="wasm") as sandbox:
            measure(sandbox)


if __name__ == "__main__":
    main()
