"""Parameters: what they accept, how they snap, and what they say when they refuse."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevel.errors import InvalidCandidate
from bilevel.mechanism import View, started_from
from bilevel.model import Draft, Move, Trial
from bilevel.offers import schema
from bilevel.space import Kind, Param, Space

RATE = Param("RATE", "float", 0.1, low=0.001, high=1.0, log=True)
BATCH = Param("BATCH", "int", 4096, low=256, high=65536, log=True, step=2)
HEADS = Param("HEADS", "int", 4, low=2, high=11, step=3)
PATTERN = Param("PATTERN", "choice", "S", choices=("S", "L"))
SPACE = Space((RATE, BATCH, HEADS, PATTERN))
BASE = Trial(0, None, SPACE.defaults() | {"HEADS": 5}, "ok", 1.0, {}, 1.0, 0, True)
VIEW = View(SPACE, (BASE,), BASE, BASE, 0)


@pytest.mark.parametrize(
    ("param", "value", "words"),
    [
        (RATE, 2.0, "its range is 0.001 to 1"),
        (RATE, math.nan, "must be finite"),
        (RATE, "0.1", "must be a number"),
        (RATE, True, "must be a number"),
        (BATCH, 1000, "nearest is 1024"),
        (BATCH, 4096.5, "whole number"),
        (HEADS, 4, "nearest is 5"),
        (PATTERN, "X", "one of 'S', 'L'"),
    ],
)
def test_refuses_with_rule_and_remedy(param: Param, value: object, words: str) -> None:
    with pytest.raises(InvalidCandidate, match=words):
        param.check(value)  # type: ignore[arg-type]


def test_types_are_the_parameters_own() -> None:
    assert isinstance(RATE.check(1), float)
    assert isinstance(BATCH.check(4096.0), int)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InvalidCandidate, match="did you mean BATCH"):
        SPACE["BACH"]


@given(st.sampled_from(SPACE.names), st.floats(0, 1))
def test_any_place_in_the_unit_interval_is_an_allowed_value(name: str, where: float) -> None:
    value = VIEW.from_unit(name, where)
    assert SPACE[name].check(value) == value


@given(st.sampled_from([RATE, BATCH, HEADS]), st.floats(-1e9, 1e9))
def test_snapping_lands_in_the_space_and_stays(param: Param, value: float) -> None:
    snapped = param.snap(value)
    assert param.check(snapped) == snapped
    assert param.snap(float(snapped)) == snapped


def test_a_grid_value_survives_unit_and_back() -> None:
    for name in ("BATCH", "HEADS", "PATTERN"):
        for value in SPACE[name].grid():
            assert VIEW.from_unit(name, VIEW.unit(name, value)) == value


def test_grid_and_style() -> None:
    assert BATCH.grid() == (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
    assert HEADS.grid() == (2, 5, 8, 11)
    assert RATE.grid() == ()
    assert BATCH.show(4096) == BATCH.show(4096.0) == "2**12"
    assert RATE.show(0.05) == "0.05"


DROP = Param("DROP", "float", 0.3, low=0.0, high=0.5, step=0.1)
SHIFT = Param("SHIFT", "float", 0.0, low=-0.3, high=0.3, step=0.1)
DECAY = Param("DECAY", "float", 0.0003, low=3e-5, high=0.3, log=True, step=10)


def test_a_grid_holds_the_numbers_as_they_are_written() -> None:
    assert DROP.grid() == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert SHIFT.grid() == (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)
    assert DECAY.grid() == (3e-05, 0.0003, 0.003, 0.03, 0.3)
    assert "-0.0" not in map(str, SHIFT.grid())


@pytest.mark.parametrize("param", [DROP, SHIFT, DECAY])
def test_a_number_on_a_grid_has_one_identity(param: Param) -> None:
    space = Space((param,))
    for value in param.grid():
        for near in (float(value) * (1 + 1e-15), float(value) * (1 - 1e-15), float(value)):
            assert param.low is not None
            assert param.high is not None
            near = min(max(near, param.low), param.high)
            checked = space.check({param.name: near})
            assert space.key(checked) == space.key({param.name: value})
            assert space.changed(checked, {param.name: value}) == ()


def test_the_present_number_of_a_grid_is_not_on_offer() -> None:
    base = Trial(0, None, {"DROP": 0.3}, "ok", 1.0, {}, 1.0, 0, True)
    offered = schema(View(Space((DROP,)), (base,), base, base, 0), Move())
    assert "'enum': [0.0, 0.1, 0.2, 0.4, 0.5]" in str(offered)


GRIDS = st.builds(
    lambda low, step, count, scale, rest: Param(
        "X",
        "float",
        low / scale,
        low / scale,
        (low + step * count + rest) / scale,
        step=step / scale,
    ),
    st.integers(-999, 999),
    st.integers(1, 99),
    st.integers(1, 40),
    st.sampled_from([1, 10, 100, 1000, 10**6, 3]),
    st.sampled_from([0, 0.5]),
)


@given(GRIDS)
def test_every_grid_stays_as_it_is_and_within_its_bounds(param: Param) -> None:
    numbers = param.grid()
    assert len(set(numbers)) == len(numbers) > 0
    assert [param.check(n) for n in numbers] == [param.snap(float(n)) for n in numbers]
    assert tuple(param.check(n) for n in numbers) == numbers


def test_neighbours_are_one_step_away() -> None:
    values = BASE.values
    assert [n["BATCH"] for n in VIEW.neighbours(values, "BATCH")] == [2048, 8192]
    assert [n["BATCH"] for n in VIEW.neighbours({**values, "BATCH": 256}, "BATCH")] == [512]
    low, high = (n["RATE"] for n in VIEW.neighbours(values, "RATE"))
    assert low < values["RATE"] < high


def test_a_range_of_one_value_is_no_range() -> None:
    one = Space((Param("ONE", "float", 1.0, low=1.0, high=1.0), BATCH))
    base = Trial(0, None, one.defaults(), "ok", 1.0, {}, 1.0, 0, True)
    view = View(one, (base,), base, base, 0)
    assert view.unit("ONE", 1.0) == 0
    assert view.ranged() == ("BATCH",)


def test_a_move_starts_from_its_parent_but_for_what_is_frozen() -> None:
    other = replace(BASE, id=1, values={**BASE.values, "RATE": 0.9, "BATCH": 512}, score=2.0)
    draft = Draft(0, 0, Move(parents=(1,)), {**other.values, "HEADS": 8})
    child = Trial(2, draft, draft.values, "ok", 2.5, {}, 1.0, 0, False)
    view = replace(VIEW, trials=(BASE, other, child), frozen=("RATE",))
    assert view.base(Move(parents=(1,))).values == {**other.values, "RATE": 0.1}
    assert view.base(Move()).id == 0
    assert view.gain(child) == 0.5
    assert view.gain(BASE) is None
    assert view.tried(other.values)
    assert not view.tried({**other.values, "HEADS": 11})


def test_a_move_without_a_parent_started_from_the_incumbent_of_its_step() -> None:
    """And not from the first baseline, nor from what the trial itself or a later one became."""
    base = replace(BASE, score=1.0)
    trials = [base]
    for step, (score, kept) in enumerate([(2.0, True), (2.5, True), (2.2, False)]):
        values = {**BASE.values, "BATCH": 256 * 2**step}
        draft = Draft(step, step, Move(values=values), values)
        trials.append(Trial(step + 1, draft, values, "ok", score, {}, 1.0, 0, kept))
    view = replace(VIEW, trials=tuple(trials), incumbent=trials[2], best=trials[2])
    assert [view.gain(t) for t in trials] == [None, 1.0, 0.5, pytest.approx(-0.3)]
    assert [started_from(trials, t).id for t in trials] == [0, 0, 1, 2]
    assert view.changed(trials[3]) == ("BATCH",)


def test_a_tag_is_found_among_those_of_other_layers() -> None:
    def tagged(tag: str) -> View:
        draft = Draft(0, 0, Move(tag=tag), BASE.values)
        return replace(VIEW, trials=(BASE, replace(BASE, id=1, draft=draft)))

    both = tagged("islands:1 ucb1:RATE")
    assert [len(both.by_tag(t)) for t in ("islands:1", "ucb1:RATE", "islands:11", "")] == [
        1,
        1,
        0,
        0,
    ]
    assert len(tagged("two words").by_tag("two words")) == 1
    assert len(tagged("").by_tag("")) == 1


def test_a_whole_float_is_the_same_configuration() -> None:
    zero = Space((Param("DECAY", "float", 0, low=0.0, high=1.0),))
    assert zero.key(zero.defaults()) == zero.key(zero.check({"DECAY": 0.0}))


def test_distance_is_zero_to_itself_and_one_between_corners() -> None:
    corner = {"RATE": 0.001, "BATCH": 256, "HEADS": 2, "PATTERN": "S"}
    other = {"RATE": 1.0, "BATCH": 65536, "HEADS": 11, "PATTERN": "L"}
    assert VIEW.distance(corner, corner) == 0
    assert VIEW.distance(corner, other) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["int", "float"])
def test_a_number_beyond_any_float_is_refused(kind: Kind) -> None:
    with pytest.raises(InvalidCandidate, match="must be finite"):
        Param("N", kind, 1).check(10**400)
