"""What a screening says of candidates that are known to help, to harm, or to do nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bilevel import mechanisms
from bilevel.codec import load_log
from bilevel.errors import MissingExtra
from bilevel.gate.screening import SEEDS, Screened, screening
from bilevel.mechanism import Mechanism
from bilevel.model import Move, Objective, Outcome, Param, Record, Run, Space, Trial, Values
from bilevel.stack import Layer
from factories import gpt_log
from planted import PLANTED, sixteen, turns, until
from worlds import RUN, Instant, Log, build, says, walk

pytest.importorskip("sklearn", reason="a screening needs the extra 'search'")

HERE = Path(__file__).parents[1]
Make = Callable[[], Mechanism]


class Terrible(Mechanism):
    """Every number at one of its bounds."""

    def plan(self, view, moves):
        ends = {n: view.from_unit(n, view.rng.choice((0.0, 1.0))) for n in view.ranged()}
        return [Move(values={**view.incumbent.values, **ends})]


class Drops(Mechanism):
    """Lets one draft in eight through."""

    def screen(self, view, drafts):
        return drafts if view.step % 8 == 0 else []


class KeepsAll(Mechanism):
    def accept(self, view, trial, keep):
        return trial.score is not None


class Crashes(Mechanism):
    """Plans what crashed, again and again, with another weight decay each time."""

    def plan(self, view, moves):
        values = {**view.incumbent.values, "WINDOW_PATTERN": "L"}
        return [Move(values={**values, "WEIGHT_DECAY": view.rng.random()})]


class Narrow(Mechanism):
    """Only ever the parameter of this name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def plan(self, view, moves):
        return [m.edit(focus=(self.name,)) for m in moves]


class Counts(Mechanism):
    """Evaluates nothing from its tenth call on."""

    def __init__(self) -> None:
        self.calls = 0

    def screen(self, view, drafts):
        self.calls += 1
        return drafts if self.calls < 30 else []


def screened(
    run: Run, records: Sequence[Record], make: Make, below: Make | None = None
) -> Screened:
    def layers() -> list[Layer]:
        return [Layer("below", "below", below())] if below else []

    return screening(run, records, layers, lambda: [*layers(), Layer("top", "top", make())])


@pytest.fixture(scope="module")
def recorded() -> tuple[Run, list[Record]]:
    """The first ten evaluations of the run of 30 in results/."""
    path = HERE.parent / "results" / "gpt-30" / "run.json"
    run, records = load_log(path.read_text(encoding="utf-8"))
    return run, until(records, 10)


@pytest.fixture(scope="module")
def known() -> list[Record]:
    return sixteen()


def test_a_layer_that_changes_nothing_gains_nothing(recorded: tuple[Run, list[Record]]) -> None:
    found = screened(*recorded, Mechanism)
    assert (found.mean, found.low, found.high, found.harmful) == (0.0, 0.0, 0.0, False)
    assert "the best val_bpb was the same with it" in found.words


def test_terrible_values_harm_and_the_author_is_told_why(
    recorded: tuple[Run, list[Record]],
) -> None:
    found = screened(*recorded, Terrible)
    assert found.harmful
    assert found.low < found.mean < found.high < 0
    assert f"in {SEEDS} pairs of simulated searches, 20 evaluations each" in found.words
    assert "worse with it" in found.words
    assert "its trials lay" in found.words
    assert "smaller steps" in found.words
    assert len(found.words) < 500


def test_a_loss_that_is_small_against_the_gains_is_no_harm(
    recorded: tuple[Run, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be lost is what the stack gains, which is not 1.1 times that."""
    monkeypatch.setattr("bilevel.gate.screening.HARM", 1.1)
    found = screened(*recorded, Terrible)
    assert found.high < 0
    assert not found.harmful


@pytest.mark.parametrize(
    ("make", "words"),
    [(Drops, "leave something new to evaluate"), (KeepsAll, "worse trials a search")],
)
def test_other_ways_to_waste_a_run_are_named(
    make: Make, words: str, recorded: tuple[Run, list[Record]]
) -> None:
    found = screened(*recorded, make)
    assert found.harmful
    assert words in found.words


def test_to_stay_with_the_one_parameter_that_matters_gains(known: list[Record]) -> None:
    found = screened(PLANTED, known, lambda: Narrow("A"))
    assert not found.harmful
    assert found.mean > 0
    assert "better with it" in found.words


def test_to_stay_with_one_that_does_not_matter_harms(known: list[Record]) -> None:
    found = screened(PLANTED, known, lambda: Narrow("C"))
    assert found.harmful
    assert "smaller steps" not in found.words


def test_crashes_happen_where_they_happened() -> None:
    log = Log()
    build(log, walk, evals=8, seed=3).go()
    records = until(log, 8)
    failed = [t for t in records if isinstance(t, Trial) and t.score is None]
    assert {t.values["PATTERN"] for t in failed} == {"L"}
    seen: list[Trial] = []

    class Watches(Mechanism):
        """Every other step near the crash, and near the incumbent."""

        def plan(self, view, moves):
            near = (failed[0], view.trials[0])[view.step % 2].values
            place = view.unit("RATE", near["RATE"]) + view.rng.uniform(-0.1, 0.1)
            return [Move(values={**near, "RATE": view.from_unit("RATE", place)})]

        def accept(self, view, trial, keep):
            seen.append(trial)
            return False

    screened(RUN, records, Watches)
    patterns = {t.status: {u.values["PATTERN"] for u in seen if u.status == t.status} for t in seen}
    assert patterns == {"crash": {"L"}, "ok": {"SSSL"}}
    assert {t.error for t in seen if t.score is None} == {failed[0].error}


def test_a_layer_that_plans_crashes_is_told_so() -> None:
    run, log = gpt_log(evals=12)
    records = until(log, 12)
    assert any(isinstance(r, Trial) and r.score is None for r in records)
    found = screened(replace(run, evals=30), records, Crashes)
    assert found.harmful
    assert "of its evaluations failed" in found.words


def test_the_same_log_gives_the_same_answer(recorded: tuple[Run, list[Record]]) -> None:
    one, two = (screened(*recorded, lambda: mechanisms.load("tabu")) for _ in range(2))
    assert one == two
    assert one.low < one.high


def test_every_search_begins_with_fresh_mechanisms(recorded: tuple[Run, list[Record]]) -> None:
    """A counter that ran on from search to search would soon let nothing through."""
    found = screened(*recorded, Counts)
    assert found.mean == 0.0


def test_both_searches_have_the_stack_below(recorded: tuple[Run, list[Record]]) -> None:
    found = screened(*recorded, Mechanism, below=Terrible)
    assert (found.mean, found.harmful) == (0.0, False)


MIXED = Space(
    (
        Param("SOURCE", "text", "def f(): return 0"),
        Param("PATTERN", "choice", "b", choices=("a", "b", "c")),
        Param("ONLY", "choice", 1, choices=(1,)),
        Param("DEPTH", "int", 5, low=1, high=9, step=2),
        Param("SCALE", "float", 2.0),
        Param("BATCH", "int", 2**12, low=2**8, high=2**16, log=True, step=2),
    )
)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_spaces_of_every_kind_and_short_histories(direction: str) -> None:
    def measure(values: Values, seed: int) -> Outcome:
        value = abs(float(values["SCALE"]) - 3) + abs(int(values["DEPTH"]) - 5)
        return Outcome("ok", value, {"m": value})

    def reply(messages: object, call: int) -> str:
        return says(**{"SCALE": 2 + call / 10, **({"SOURCE": "x"} if call % 2 else {})})

    objective = Objective("m", direction)  # type: ignore[arg-type]
    run = replace(PLANTED, space=MIXED, objective=objective, evals=5, confirms=0)
    log = Log()
    build(log, reply, run, Instant(measure=measure)).go()
    for count in (1, 5):
        records = until(log, count)
        found = screened(run, records, lambda: mechanisms.load("opposite"))
        assert "5 evaluations each" in found.words
        assert found.low <= found.mean <= found.high


def test_scores_that_are_all_equal_are_no_obstacle() -> None:
    log = Log()
    flat = Instant(measure=lambda values, seed: Outcome("ok", 1.0, {"loss": 1.0}))
    build(log, turns, replace(PLANTED, evals=6, confirms=0), flat).go()
    assert screened(PLANTED, log[:-1], Mechanism).mean == 0.0


def test_one_diverged_trial_does_not_drown_the_others(known: list[Record]) -> None:
    def diverged(record: Record) -> Record:
        far = isinstance(record, Trial) and record.id == 7
        return replace(record, score=-1e9) if far else record  # type: ignore[type-var]

    found = screened(PLANTED, [diverged(r) for r in known], Terrible)
    assert found.harmful
    assert found.mean > -10


def test_without_the_library_the_remedy_is_named(
    recorded: tuple[Run, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bilevel.gate.surrogate", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process", None)
    with pytest.raises(MissingExtra, match=r"pip install 'bilevel\[search\]'"):
        screened(*recorded, Mechanism)


def test_to_import_it_needs_no_heavy_library() -> None:
    heavy = "{'numpy', 'sklearn'} & sys.modules.keys()"
    code = f"import sys, bilevel.gate.screening; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
