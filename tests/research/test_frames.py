"""A frame filled in conforms, and says what its expressions may use."""

import ast
import random
from pathlib import Path

import pytest

import traces
from bilevel.codec import load_log
from bilevel.conformance.mechanism import check_mechanism
from bilevel.history import History
from bilevel.mechanism import Mechanism, View
from bilevel.model import Move, Param, Space
from bilevel.research import frames
from bilevel.research.authoring import (
    assembled,
    fill_schema,
    parse_specification,
    specification_schema,
)
from bilevel.research.counting import COUNTED, observed
from bilevel.research.frames import FRAMES, Frame, Local, able, names_of, serving
from bilevel.sandbox import policy
from factories import GPT
from filled import FILLED
from traces import T

RECORD = Path(__file__).parents[2] / "results" / "gpt-30" / "run.json"
LOCALS = sorted({local for frame in FRAMES for local in frame.locals}, key=lambda x: x.name)


def view() -> View:
    run, records = load_log(RECORD.read_text())
    history = History(run.space, records)
    return history.view(step=40, slots=1, left=10, rng=random.Random(0))


def filled(frame: Frame) -> str:
    return frame.source("Tried", "a rule", FILLED[frame.does])


def made(source: str) -> Mechanism:
    names: dict[str, object] = {"__name__": "generated"}
    exec(source, names)
    kind = names["Tried"]
    assert isinstance(kind, type)
    mechanism = kind()
    assert isinstance(mechanism, Mechanism)
    return mechanism


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: f.does)
def test_a_frame_filled_in_conforms(frame: Frame) -> None:
    source = filled(frame)
    assert policy.lint(source) == []
    assert check_mechanism(lambda: made(source), steps=8) == []


@pytest.mark.parametrize("local", LOCALS, ids=lambda x: x.name)
def test_what_a_prompt_shows_of_a_name_is_what_its_code_gives(local: Local) -> None:
    assert local.now is not None
    seen = view()
    names: dict[str, object] = {"view": seen}
    exec(local.code, names)
    shown = local.now(seen)
    if isinstance(shown, dict):
        code = names[local.name]
        assert isinstance(code, dict)
        assert code == pytest.approx(shown, abs=1e-3)
    elif isinstance(shown, float):
        assert names[local.name] == pytest.approx(shown, abs=1e-2)
    else:
        assert names[local.name] == shown


def test_only_what_the_rule_uses_is_worked_out() -> None:
    source = FRAMES[0].source("Tried", "a rule", {"when": "streak > 3", "key": "age[name]"})
    assert "age = {" in source
    assert "gains = {" not in source


def test_an_expression_cannot_leave_its_hole() -> None:
    source = FRAMES[0].source("Tried", "a rule", {"when": "1)\n    x = (1", "key": "0"})
    assert "(1)\n    x = (1)" not in source


@pytest.mark.parametrize("step", [-1, 1, -0.1])
def test_a_step_goes_no_further_than_a_quarter_of_the_range(step: float) -> None:
    frame = next(f for f in FRAMES if "set one parameter" in f.does)
    rule = made(frame.source("Tried", "a rule", {"when": "True", "key": "0", "step": str(step)}))
    before = traces.view_of(traces.history(space=Space((GPT["MATRIX_LR"],))))
    (move,) = rule.plan(before, [Move(parents=(0,))])
    assert move.values is not None
    start, end = (
        before.unit("MATRIX_LR", v["MATRIX_LR"]) for v in (before.incumbent.values, move.values)
    )
    assert end - start == pytest.approx(min(0.25, max(-0.25, step)), abs=0.01)


NUMBER, TEXT, OTHER = (
    Param("RATE", "float", 0.1, 0.0, 1.0),
    Param("SOURCE", "text", "x = 1\n"),
    Param("HEADER", "text", "y = 1\n"),
)


@pytest.mark.parametrize(
    ("space", "left_out"),
    [
        ((NUMBER, TEXT), ["another trial"]),
        ((NUMBER,), ["one parameter only", "close some", "another trial"]),
        ((TEXT, OTHER), ["set one", "correct the value"]),
        ((TEXT,), ["one parameter only", "close some", "set one", "correct the value"]),
    ],
)
def test_only_frames_that_can_act_in_a_space_are_on_offer(
    space: tuple[Param, ...], left_out: list[str]
) -> None:
    missing = [f.does for f in FRAMES if f not in able(Space(space))]
    assert len(missing) == len(left_out)
    assert all(words in does for words, does in zip(left_out, missing, strict=True))


def test_a_rule_may_start_from_another_trial_of_texts() -> None:
    space = Space((TEXT,))
    first, second, third = (T({"SOURCE": f"x = {n}\n"}, -1.0 * n) for n in (2, 3, 4))
    seen = traces.view_of(traces.history(first, second, third, space=space))
    frame = FRAMES[-1]
    for key, parent in (("behind", 0), ("-behind", 3), ("since", 3), ("-since", 0), ("-used", 0)):
        rule = made(frame.source("Tried", "a rule", {"when": "streak > 2", "key": key}))
        assert rule.plan(seen, [Move()]) == [Move(parents=(parent,))], key
    rests = made(frame.source("Tried", "a rule", {"when": "streak > 3", "key": "used"}))
    assert rests.plan(seen, [Move()]) == [Move()]


def test_a_specification_names_a_frame() -> None:
    does = [frame.does for frame in FRAMES]
    assert specification_schema(does)["properties"]["does"]["enum"] == does
    reply = f'{{"does": "{does[1]}", "condition": "often", "idea": "Rest.", "name": "rest losers"}}'
    spec = parse_specification(reply)
    assert spec is not None
    assert (spec.name, spec.frame, spec.idea) == ("RestLosers", FRAMES[1], "Rest")
    assert set(fill_schema(spec.frame)["properties"]) == {"when"}
    assert "class RestLosers" in assembled(spec, '{"when": "left < 1", "closed": "age[name] < 2"}')
    assert assembled(spec, "no JSON") == "no JSON"


@pytest.mark.parametrize(
    "reply",
    ["no JSON", "[]", "{}", '{"does": "fly", "condition": "a", "idea": "b", "name": "c"}'],
)
def test_what_is_no_specification_is_none(reply: str) -> None:
    assert parse_specification(reply) is None


def test_names_within_a_decision_are_told() -> None:
    told = {f.does: [x.name for x in frames.names_of(f)] for f in FRAMES}
    for frame in FRAMES:
        wanted = [n for n in ("here", "old", "new", "lost") if f"{n} = " in frame.body]
        assert all(name in told[frame.does] for name in wanted)


def test_a_rule_may_be_compared_with_numbers_that_the_trace_has_been_on_both_sides_of() -> None:
    made = traces.history(
        T({"MATRIX_LR": 0.08}, -0.1), T({"MATRIX_LR": 0.01}, -0.2), T({"WEIGHT_DECAY": 0.1}, 0.1)
    )
    spans = observed(traces.view_of(made, noise=0.05))
    assert spans["evaluations since the last kept one"] == (0, 2)
    assert spans["how often one parameter was changed"] == (0, 2)
    assert spans["how much worse a trial is than the incumbent, in units of noise"] == (2, 4)


def test_where_measurements_do_not_scatter_nothing_is_counted_in_units_of_noise() -> None:
    made = traces.history(
        T({"MATRIX_LR": 0.08}, -0.1), T({"MATRIX_LR": 0.01}, -0.2), T({"WEIGHT_DECAY": 0.1}, 0.1)
    )
    some, none = (observed(traces.view_of(made, noise=noise)) for noise in (0.05, 0.0))
    dropped = {what for what in COUNTED if "units of noise" in what}
    assert len(dropped) == 2
    assert dropped <= set(some)
    assert set(none) == set(some) - dropped


def test_what_has_not_varied_makes_no_rule() -> None:
    assert "how often one parameter was changed" not in observed(traces.view_of(traces.history()))


@pytest.mark.parametrize("counted", COUNTED)
def test_what_is_counted_can_be_said_in_each_frame_that_serves_it(counted: str) -> None:
    assert serving(counted)
    for frame in serving(counted):
        names = {local.name for local in names_of(frame)} | {"name"}
        code = ast.parse(COUNTED[counted].code, mode="eval")
        assert {n.id for n in ast.walk(code) if isinstance(n, ast.Name)} <= names
