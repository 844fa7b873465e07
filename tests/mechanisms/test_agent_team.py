"""Three roles make one candidate, which is evaluated once; a crash is mended once."""

from dataclasses import replace
from itertools import pairwise

from searching import proposals, search, tagged, trial, trials, view

from bilevel.mechanisms.agent_team import AgentTeam
from bilevel.model import Call, Draft, Move
from worlds import SPACE, says


def draft(number: int, tag: str = "agent_team:role", **values: object) -> Draft:
    return Draft(number, 0, Move((0,), tag=tag), {**SPACE.defaults(), **values}, f"idea {number}")


def test_the_changes_of_all_roles_become_one_candidate_the_last_one_ruling() -> None:
    drafts = [draft(0, RATE=0.2), draft(1, BATCH=2048), draft(2, RATE=0.3)]
    (team,) = AgentTeam().screen(view(trial(0, -1.0)), drafts)
    assert team.values == {"RATE": 0.3, "BATCH": 2048, "PATTERN": "SSSL"}
    assert team.edits[0].before == drafts[0].values
    assert team.edits[0].why == "idea 0; idea 1; idea 2"


def test_drafts_of_others_are_left_alone() -> None:
    other = draft(5, tag="", BATCH=512)
    chosen = AgentTeam().screen(
        view(trial(0, -1.0)), [draft(0, RATE=0.2), draft(1, BATCH=2048), other]
    )
    assert [d.id for d in chosen] == [0, 5]
    assert chosen[1] == other


def test_a_merge_that_was_evaluated_gives_way_to_the_first_draft() -> None:
    drafts = [draft(0, RATE=0.2), draft(1, BATCH=2048)]
    some = view(trial(0, -1.0), trial(1, -2.0, RATE=0.2, BATCH=2048))
    assert AgentTeam().screen(some, drafts) == drafts[:1]


def test_three_calls_make_one_trial() -> None:
    replies = (says(RATE=0.2), says(BATCH=2048), says(PATTERN="SL"))
    log = search(AgentTeam(), evals=1, reply=lambda m, n: replies[n % 3])
    (only,) = trials(log)
    assert only.values == {"RATE": 0.2, "BATCH": 2048, "PATTERN": "SL"}
    assert len([r for r in log if isinstance(r, Call)]) == 3


def test_a_crash_is_sent_back_once_with_the_candidate_as_base() -> None:
    failed = replace(trial(1, None, PATTERN="L"), draft=draft(0, PATTERN="L"))
    (move,) = AgentTeam().plan(view(trial(0, -1.0), failed, step=1), [Move((0,))])
    assert (move.parents, move.tag) == ((1,), "agent_team:repair")
    assert "#1 ended as crash" in move.note
    again = AgentTeam().plan(view(trial(0, -1.0), failed, step=2), [Move((0,))])
    assert [m.tag for m in again] == ["agent_team:role"] * 3


def test_a_failed_repair_is_not_repaired() -> None:
    log = search(AgentTeam(), evals=20)
    tags = [p.moves[0].tag for p in proposals(log)]
    assert tagged(log, "agent_team:repair")
    assert ("agent_team:repair", "agent_team:repair") not in list(pairwise(tags))
