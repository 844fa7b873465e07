"""Racers are measured on further seeds; losers drop out; luck on one seed wins nothing."""

import random
from collections import Counter

from searching import search, trials

from bilevel.mechanisms.racing import Racing
from bilevel.model import Outcome
from worlds import SPACE


def noisy(values: dict[str, object], seed: int) -> Outcome:
    """Best at RATE 0.3, under noise as large as half of what there is to gain."""
    noise = random.Random(f"{seed} {values['RATE']}").gauss(0, 0.1)
    value = abs(float(values["RATE"]) - 0.3) + noise
    return Outcome("ok", value, {"loss": value})


def seeds(log) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for trial in trials(log):
        assert trial.draft is not None
        found.setdefault(SPACE.key(trial.values), []).append(trial.draft.move.seed)
    return found


def test_racers_are_measured_on_the_same_seeds_in_order() -> None:
    log = search(Racing(), evals=40, measure=noisy)
    measured = seeds(log)
    defaults = measured.pop(SPACE.key(SPACE.defaults()))
    assert all(s == list(range(len(s))) for s in measured.values())
    assert defaults == list(range(1, len(defaults) + 1))  # its first is the baseline


def test_clear_losers_drop_out_after_the_first_test() -> None:
    def clear(values: dict[str, object], seed: int) -> Outcome:
        value = abs(float(values["RATE"]) - 0.3) + random.Random(seed).random() / 1000
        return Outcome("ok", value, {"loss": value})

    counts = Counter(map(len, seeds(search(Racing(), evals=40, measure=clear)).values()))
    assert counts[3] > 3 * counts[7]


def test_no_lucky_seed_makes_an_incumbent() -> None:
    log = search(Racing(), evals=60, measure=noisy)
    for trial in trials(log):
        assert trial.draft is not None
        assert not trial.kept or trial.draft.move.seed >= 2
    assert any(t.kept for t in trials(log))


def test_a_task_without_noise_is_decided_at_the_first_test() -> None:
    def exact(values: dict[str, object], seed: int) -> Outcome:
        value = abs(float(values["RATE"]) - 0.3)
        return Outcome("ok", value, {"loss": value})

    measured = seeds(search(Racing(), evals=40, measure=exact))
    assert max(map(len, measured.values())) <= 4


def test_a_racer_that_fails_on_a_seed_is_out() -> None:
    def fragile(values: dict[str, object], seed: int) -> Outcome:
        if float(values["RATE"]) > 0.15 and seed % 2:
            return Outcome("crash", None, error="diverged")
        return Outcome("ok", 1.0, {"loss": 1.0})

    failed = [t for t in trials(search(Racing(), evals=40, measure=fragile)) if t.score is None]
    keys = [SPACE.key(t.values) for t in failed]
    assert keys
    assert len(keys) == len(set(keys))
