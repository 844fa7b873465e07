"""A proposer in the LLM's place, for runs that try a mechanism and not an LLM.

It draws as a small LLM was seen to: a few favourite parameters, steps of its size, now and then a
reply that leads to nothing. It cannot read, so advice of a mechanism or of steering is lost on it.
"""

from __future__ import annotations

from bilevel.gate.habits import Habits, Habitual
from bilevel.model import Run
from bilevel.seeds import generator
from bilevel.tape.tape import Tape

STAND_IN = "habits"  # by which name a run has it in its LLM's place

# Habits of the embedded LLM in results/gpt-30: how often it named each of the 13 parameters, the
# most named first, and those never named left out; its other shares; its steps, in units.
NAMED = (10, 9, 8, 7, 6, 4, 1)
TWO = 0.184
REFUSED = 0.211
STEPS = (
    -0.333, -0.251, -0.251, -0.251, -0.251, -0.2, -0.2, -0.167, -0.167, -0.167, -0.167, -0.167,
    -0.151, -0.1, -0.05, -0.05, -0.05, -0.05, -0.02, 0.02, 0.05, 0.104, 0.104, 0.104, 0.104, 0.104,
    0.2, 0.2, 0.2, 0.2, 0.4, 0.6,
)  # fmt: skip


def stand_in(run: Run) -> Habitual:
    """The proposer of a run; which parameters are its favourites is drawn by the run's seed."""
    names = list(run.space.names)
    generator(run.seed, "favourites").shuffle(names)
    habits = Habits(dict(zip(names, NAMED, strict=False)), TWO, REFUSED, {"": STEPS})
    return Habitual(run.brief, run.objective, Tape(run.llm, None), run.seed, habits)
