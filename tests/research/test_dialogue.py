"""One session of Level 2: what each round is shown, which sources are asked for, what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bilevel.codec import dump, load
from bilevel.gate.gate import Rule, Verdict
from bilevel.model import Call, MechanismSource, Message, Refusal, Run, Session
from bilevel.protocols import Schema
from bilevel.research.dialogue import Researcher
from bilevel.research.frames import FRAMES, serving
from bilevel.research.manners import CLASSES, Chosen, chosen, manner
from bilevel.research.manners import FRAMES as BY_FRAMES
from bilevel.research.merit import Known
from outer_worlds import (
    PLAN,
    Script,
    ScriptedLevels,
    TellingTape,
    fitting,
    notes,
    sha_of,
    specified,
)
from traces import GPT, T, history, view_of
from worlds import LOSS

RUN = Run("gpt-1", "gpt", GPT, LOSS, "A small GPT.", 3, 30, llm="scripted",
          outer=replace(PLAN, candidates=4, repairs=2))  # fmt: skip
HISTORY = history(T({"MATRIX_LR": 0.08}, 0.25), T({"MATRIX_LR": 0.2}, -0.1), T({"ADAM_BETA1": 0.9}))


def known(text: str, name: str = "Mine", *, stacked: bool = True) -> Known:
    source = MechanismSource(sha_of(text), name, text, "It notes.")
    return Known(source, f"changed 3 of 9 decisions, says {name}", 0.5, stacked)


@dataclass
class Said(Script):
    """What the LLM says in one session, by purpose; what is not there follows the schema."""

    said: Mapping[str, str] = field(default_factory=dict)

    def say(
        self, purpose: str, session: int, messages: Sequence[Message], schema: Schema | None
    ) -> str:
        plain = specified() if purpose == "specify" else None
        plain = plain or (json.dumps(fitting(schema)) if schema else "class Mine: ...")
        return self.said.get(purpose, plain)


def scripted_tape(record: Callable[[Any], object], **said: str) -> TellingTape:
    """A tape whose LLM says these things, a purpose's spaces written as underscores."""
    script = Said(said={purpose.replace("_", " "): text for purpose, text in said.items()})
    return TellingTape("scripted", ScriptedLevels(script=script), [], record)


def verdict(text: str, rule: Rule = "", words: str = "") -> Verdict:
    return Verdict(rule, words, text, sha_of(text), "Mine", {"influence": 0.5})


def hold(
    *mechanisms: Known,
    run: Run = RUN,
    judge: Callable[[str], Verdict] = verdict,
    **said: str,
) -> tuple[Session, list[Call]]:
    calls: list[Call] = []
    tape = scripted_tape(calls.append, **said)
    researcher = Researcher(run, HISTORY, tape, judge)
    return researcher.hold(view_of(HISTORY), 2, mechanisms), calls


def prompt(calls: Sequence[Call], purpose: str) -> str:
    (call,) = [c for c in calls if c.purpose == purpose]
    return "\n".join(m.content for m in call.messages)


def refuses(*refused: Rule) -> Callable[[str], Verdict]:
    """A gate that refuses by these rules in turn, and then admits."""
    rules = list(refused)

    def judge(text: str) -> Verdict:
        rule = rules.pop(0) if rules else ""
        return verdict(text, rule, f"it broke {rule}" if rule else "")

    return judge


def test_three_rounds_of_one_talk_and_then_the_source() -> None:
    session, calls = hold()
    assert [c.purpose for c in calls] == ["explore", "critique", "specify", "generate 0"]
    assert {c.level for c in calls} == {"2"}
    assert {c.step for c in calls} == {session.step} == {3}
    explore, critique, specify = calls[:3]
    for before, after in ((explore, critique), (critique, specify)):
        assert after.messages[: len(before.messages)] == before.messages
        assert after.messages[len(before.messages)] == Message("assistant", before.reply.text)
    assert session.notes == {c.purpose: c.reply.text for c in calls[:3]}
    assert len({c.seed for c in calls}) == 4
    assert session.admitted == session.attempts[0].sha


def test_the_first_round_sees_loop_trace_facts_stack_and_record() -> None:
    one, two = known(notes("one"), "One"), known(notes("two"), "Two", stacked=False)
    text = prompt(hold(one, two)[1], "explore")
    assert "class Loop:" in text
    assert '"""Plan, draft, screen, evaluate, accept."""' in text
    assert "#1 MATRIX_LR 0.04 -> 0.08" in text
    assert "MATRIX_LR: changed 2 times" in text
    assert "3 evaluations: 1 kept" in text
    assert notes("one").strip() in text
    assert notes("two").strip() not in text, "it is not on the stack"
    for mechanism in (one, two):
        assert f"- {mechanism.source.name}: {mechanism.record}" in text
    assert "TOTAL_BATCH_SIZE: int" in text
    assert "A small GPT." in text


def test_without_a_mechanism_the_first_round_says_so() -> None:
    text = prompt(hold()[1], "explore")
    assert "none; the loop keeps what is strictly better" in text
    assert "none yet" in text


def test_fields_to_borrow_from_are_named_only_on_request() -> None:
    hinted = replace(RUN, outer=replace(RUN.outer, domains="hint"))
    assert "statistical physics" in prompt(hold(run=hinted)[1], "explore")
    assert "statistical physics" not in prompt(hold()[1], "explore")


def test_a_refusal_goes_back_until_the_repairs_are_used_up_then_another_way_is_tried() -> None:
    session, calls = hold(judge=refuses(*["influence"] * 4))
    purposes = [c.purpose for c in calls[3:]]
    assert purposes == ["generate 0", "repair 0.1", "repair 0.2", "generate 1", "repair 1.1"]
    assert [a.rule for a in session.attempts] == ["influence"] * 4 + [""]
    assert "it broke influence" in calls[4].messages[-1].content
    assert calls[4].messages[-2].content == calls[3].reply.text
    assert session.admitted == session.attempts[-1].sha
    ways = [a.way for a in session.attempts]
    assert [w == "repair" for w in ways] == [False, True, True, False, True]


def test_what_does_harm_is_not_repaired() -> None:
    purposes = [c.purpose for c in hold(judge=refuses("harm"))[1]]
    assert purposes[3:] == ["generate 0", "generate 1"]


def test_a_session_ends_when_all_candidates_were_refused() -> None:
    session, calls = hold(judge=refuses(*["parse"] * 99))  # type: ignore[arg-type]
    assert len(session.attempts) == 4 * 3
    assert session.admitted == ""
    assert len(calls) == 3 + 12


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_it_builds_on_the_best_known_and_says_on_which(count: int) -> None:
    mechanisms = [known(notes(str(i)), f"Mine{i}", stacked=False) for i in range(count)]
    session, calls = hold(*mechanisms, judge=refuses(*["influence"] * 12))
    turn = BY_FRAMES.ways.index("improve")
    first, repaired = session.attempts[3 * turn : 3 * turn + 2]
    expected = {0: "fill", 1: "improve"}.get(count, "combine")
    assert first.way == expected
    assert first.parents == tuple(m.source.sha for m in mechanisms[: min(count, 2)])
    assert repaired.way == "repair"
    assert repaired.parents == first.parents, "what is mended has the same parents"
    for mechanism in mechanisms[:2]:
        assert mechanism.source.source.strip() in prompt(calls, f"generate {turn}")


def test_the_attempt_keeps_what_was_written_and_what_was_judged() -> None:
    def judge(text: str) -> Verdict:
        return verdict("class Mended: ...")

    session, calls = hold(judge=judge)
    (attempt,) = session.attempts
    assert attempt.written == calls[-1].reply.text
    assert attempt.source == "class Mended: ..."
    assert attempt.sha == sha_of("class Mended: ...") == session.admitted


def test_it_may_ask_for_the_removal_of_one_that_is_there() -> None:
    there, gone = known(notes("one"), "There"), known(notes("two"), "Gone", stacked=False)
    session, calls = hold(there, gone, explore=json.dumps({"remove": "There"}))
    assert session.removed == {there.source.sha: "a session of Level 2 asked for it"}
    schema = json.loads(calls[0].schema)
    assert schema["properties"]["remove"] == {"enum": ["", "There"]}
    assert hold(there, gone, explore=json.dumps({"remove": "Gone"}))[0].removed == {}
    assert "remove" not in json.loads(hold(gone)[1][0].schema)["properties"]


def test_one_that_gained_is_not_on_offer_for_removal() -> None:
    lost, gained = known(notes("one"), "Lost"), replace(known(notes("two"), "Gained"), gained=True)
    session, calls = hold(lost, gained, explore=json.dumps({"remove": "Gained"}))
    assert json.loads(calls[0].schema)["properties"]["remove"] == {"enum": ["", "Lost"]}
    assert session.removed == {}


def test_of_several_of_one_name_the_one_with_least_credit_is_meant() -> None:
    one, two = known(notes("one")), known(notes("two"))
    session, _ = hold(one, two, explore=json.dumps({"remove": "Mine"}))
    assert list(session.removed) == [two.source.sha]


@pytest.mark.parametrize("explore", ["", "no JSON", "[]", "null", '"Mine"', '{"remove": {}}'])
def test_a_first_round_that_is_no_object_removes_nothing(explore: str) -> None:
    assert hold(known(notes("one")), explore=explore)[0].removed == {}


@pytest.mark.parametrize("specify", ["I would rather not.", "[]", "{}"])
def test_without_a_specification_no_source_is_asked_for(specify: str) -> None:
    session, calls = hold(specify=specify)
    assert [c.purpose for c in calls] == ["explore", "critique", "specify"]
    assert (session.attempts, session.admitted) == ((), "")


def test_a_sham_is_held_in_full_and_says_so() -> None:
    sham = replace(RUN, outer=replace(RUN.outer, research="sham"))
    session, calls = hold(run=sham)
    assert session.sham
    assert session.admitted == session.attempts[-1].sha
    real, same = hold()
    assert not real.sham
    assert [c.key for c in calls] == [c.key for c in same]


def test_a_session_can_be_written_down_and_read_back() -> None:
    half = json.dumps({"remove": "Mine", "wastes": ["half of \ud83d"]})
    spec = json.dumps({**json.loads(specified()), "idea": "Stand still \ud83d no more."})
    session, calls = hold(known(notes("one")), explore=half, specify=spec, judge=refuses("parse"))
    assert load(Session, dump(session)) == session
    for call in calls:
        assert load(Call, dump(call)) == call


def test_refusals_of_proposals_are_in_the_trace() -> None:
    made = history(T({"MATRIX_LR": 0.08}, 0.25))
    step = made.proposals[0]
    again = Refusal(0, step.moves[0], "it repeats #1", made.trials[1].values)
    made.proposals[0] = replace(step, refusals=(again,))
    calls: list[Call] = []
    tape = scripted_tape(calls.append)
    Researcher(RUN, made, tape, verdict).hold(view_of(made), 1, [])
    assert "refused MATRIX_LR 0.04 -> 0.08: it repeats #1" in prompt(calls, "explore")


RULE = {
    "when": {"counted": "evaluations since the last kept one", "compared": "above", "number": 3},
    "then": FRAMES[1].does,
    "why": "it would have rested",
}


def test_the_rule_that_the_critique_chose_goes_into_the_source_with_its_condition() -> None:
    explore = json.dumps({"wastes": [], "rule2": RULE})
    specify = json.dumps({"does": FRAMES[1].does, "idea": "Rest what was tried.", "name": "RestIt"})
    _, calls = hold(explore=explore, critique=json.dumps({"choice": 2}), specify=specify)
    assert "evaluations since the last kept one, `streak`, is above 3" in prompt(
        calls, "generate 0"
    )
    (shape,) = [c.schema for c in calls if c.purpose == "specify"]
    assert json.loads(shape)["properties"]["does"] == {"enum": [FRAMES[1].does]}


@pytest.mark.parametrize("critique", ["", "[]", "{}", '{"choice": 3}', '{"choice": null}'])
def test_a_choice_of_no_rule_leaves_all_frames_open(critique: str) -> None:
    notes = {"explore": json.dumps({"rule2": RULE}), "critique": critique}
    assert chosen(notes) == Chosen()


@pytest.mark.parametrize("seed", range(9))
def test_the_three_rules_do_and_count_something_else_each(seed: int) -> None:
    made = history(
        T({"MATRIX_LR": 0.08}, -0.1), T({"MATRIX_LR": 0.01}, -0.2), T({"WEIGHT_DECAY": 0.1}, 0.1)
    )
    schema = BY_FRAMES.explore(view_of(made, noise=0.05), [], seed)
    options = [schema["properties"][f"rule{i}"]["anyOf"] for i in (1, 2, 3)]
    does = [{d for o in rule for d in o["properties"]["then"]["enum"]} for rule in options]
    assert all(does)
    assert not does[0] & does[1] | does[0] & does[2] | does[1] & does[2]
    for rule in options:
        for option in rule:
            when = option["properties"]["when"]["anyOf"][0]["properties"]
            able = {frame.does for frame in serving(when["counted"]["const"])}
            assert set(option["properties"]["then"]["enum"]) <= able


def test_a_name_that_is_taken_gets_a_number() -> None:
    one = [known(notes("one")), known(notes("two"), "Mine2")]
    for there, name in (([], "Mine"), (one[:1], "Mine2"), (one, "Mine3")):
        _, calls = hold(*there)
        assert f"class {name}(" in prompt(calls, "generate 0")


FREELY = replace(RUN, outer=replace(RUN.outer, writes="classes"))
FREE_RULE = {
    "hook": "accept",
    "statistic": "how often each neighbourhood was left again",
    "rule": "keeps what opens a new one",
    "idea": "Go where nothing was measured",
    "name": "NewGround",
}


def test_where_classes_are_written_the_rule_is_free_and_so_is_the_source() -> None:
    session, calls = hold(run=FREELY, specify=json.dumps(FREE_RULE))
    schemas = {c.purpose: json.loads(c.schema) for c in calls[:3]}
    rule = schemas["explore"]["properties"]["rule1"]["properties"]
    assert {key: shape["type"] for key, shape in rule.items()} == dict.fromkeys(rule, "string")
    assert set(schemas["specify"]["required"]) == set(FREE_RULE)
    assert calls[-1].schema == "null", "code alone is asked for"
    text = prompt(calls, "generate 0")
    assert "Write the whole class `NewGround(Mechanism)` with the hook `accept`" in text
    for part in ("statistic", "rule", "idea"):
        assert FREE_RULE[part] in text
    assert [a.way for a in session.attempts] == ["write"]
    assert session.writes == "classes"
    assert {c.max_tokens for c in calls} == {CLASSES.round_tokens, CLASSES.source_tokens}


def test_classes_are_asked_for_in_several_ways() -> None:
    some, none = [known(notes("one"))], list[Known]()
    for there, wanted in ((none, "write"), (some, "improve")):
        run = replace(FREELY, outer=replace(FREELY.outer, repairs=0))
        session, _ = hold(
            *there, run=run, judge=refuses(*["influence"] * 9), specify=json.dumps(FREE_RULE)
        )
        assert [a.way for a in session.attempts] == ["write", wanted, "write", "complete"]


@pytest.mark.parametrize("bad", [{"hook": "evaluate"}, {"hook": []}, {"rule": 3}, {"name": None}])
def test_a_free_rule_that_lacks_a_part_is_no_specification(bad: dict[str, object]) -> None:
    session, _ = hold(run=FREELY, specify=json.dumps(FREE_RULE | bad))
    assert not session.attempts


def test_after_a_session_without_a_class_frames_are_filled() -> None:
    failed, _ = hold(run=FREELY, judge=refuses(*["parse"] * 99), specify=json.dumps(FREE_RULE))  # type: ignore[arg-type]
    held, _ = hold(run=FREELY, specify=json.dumps(FREE_RULE))
    assert manner("classes", []) is manner("classes", [held]) is CLASSES
    assert manner("classes", [held, failed]) is manner("classes", [failed, held]) is BY_FRAMES
    assert manner("frames", [held]) is BY_FRAMES
