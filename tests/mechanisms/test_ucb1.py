"""UCB1: each parameter once, then the one that pays, and none for ever."""

from collections import Counter

from trying import MIXED, go

from bilevel.mechanisms.ucb1 import Ucb1
from bilevel.model import Outcome, Values


def pays(name: str):
    """A task on which each new value of one parameter is better than all before it."""
    seen: list[object] = []

    def measure(values: Values, seed: int) -> Outcome:
        if values[name] not in seen:
            seen.append(values[name])
        loss = -float(seen.index(values[name]))
        return Outcome("ok", loss, {"loss": loss})

    return measure


def test_pulls_every_arm_once_before_any_twice() -> None:
    run = go(Ucb1(), space=MIXED, evals=30)
    arms = [m.focus[0] for p in run.proposals for m in p.moves if m.focus]
    assert sorted(arms[: len(MIXED)]) == sorted(MIXED.names)
    assert len(arms) > len(MIXED)


def test_prefers_what_pays_and_never_drops_an_arm() -> None:
    run = go(Ucb1(), space=MIXED, measure=pays("DECAY"), evals=80)
    pulls = Counter(m.focus[0] for p in run.proposals for m in p.moves if m.focus)
    assert pulls.most_common(1)[0][0] == "DECAY"
    assert pulls["DECAY"] > 2 * max(n for arm, n in pulls.items() if arm != "DECAY")
    assert min(pulls[name] for name in MIXED.names) >= 3


def test_changes_nothing_but_the_arm() -> None:
    run = go(Ucb1(), space=MIXED, evals=30)
    values = {0: MIXED.defaults()} | {t.id: t.values for t in run.trials}
    for draft in run.drafts:
        if draft.move.focus:
            changed = MIXED.changed(values[draft.move.parents[0]], draft.values)
            assert changed == draft.move.focus


def test_keeps_to_the_focus_of_a_layer_below() -> None:
    below = Ucb1()
    run = go(below, Ucb1(), space=MIXED, evals=20)
    assert run.faults == []
    assert {len(m.focus) for p in run.proposals for m in p.moves} <= {0, 1}
