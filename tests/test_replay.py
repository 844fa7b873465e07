"""A recorded run decides the same again, and a record that was tampered with is named."""

from dataclasses import replace

from bilevel.model import Call, Proposal, Trial
from bilevel.replay import replay
from worlds import RUN, Log, build, says


def recorded() -> Log:
    log = Log()
    build(log, evals=8).go()
    return log


def test_a_whole_run_replays_without_llm_or_jobs() -> None:
    log = recorded()
    result = replay(replace(RUN, evals=8), log)
    assert result.difference is None
    assert result.decisions == len([r for r in log if isinstance(r, Proposal | Trial)])


def test_a_run_that_was_cut_short_replays_to_where_it_ends() -> None:
    log = recorded()
    for cut in range(len(log)):
        result = replay(replace(RUN, evals=8), log[:cut])
        assert result.difference is None, f"cut after {cut}: {result.difference}"


def test_a_changed_acceptance_is_named() -> None:
    log = recorded()
    at = next(i for i, r in enumerate(log) if isinstance(r, Trial) and r.kept and r.id)
    log[at] = replace(log[at], kept=False)
    difference = replay(replace(RUN, evals=8), log).difference
    assert difference is not None
    assert difference.recorded == log[at]
    assert isinstance(difference.replayed, Trial)
    assert difference.replayed.kept


def test_a_missing_call_is_named() -> None:
    log = recorded()
    calls = [r for r in log if isinstance(r, Call)]
    log.remove(calls[2])
    difference = replay(replace(RUN, evals=8), log).difference
    assert difference is not None
    assert "never recorded" in difference.why


def test_a_changed_reply_is_named() -> None:
    log = recorded()
    at = max(i for i, r in enumerate(log) if isinstance(r, Call))
    call = log[at]
    assert isinstance(call, Call)
    log[at] = replace(call, reply=replace(call.reply, text=says(RATE=0.4321)))
    difference = replay(replace(RUN, evals=8), log).difference
    assert difference is not None
    assert isinstance(difference.replayed, Proposal)
    assert difference.replayed.drafts[0].values["RATE"] == 0.4321
