"""Rules of Level 2 on a real run whose only parameter is a source: what is on offer can act."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from bilevel.codec import load_log
from bilevel.gate.gate import Gate
from bilevel.history import History
from bilevel.model import Record, Run
from bilevel.research.frames import FRAMES, Frame, able
from bilevel.research.manners import FRAMES as BY_FRAMES
from bilevel.sandbox.host import Limits
from bilevel.sandbox.sandboxed import Sandbox
from bilevel.seeds import generator
from filled import FILLED

PATH = Path(__file__).parents[1] / "runs" / "packing.json.gz"


@pytest.fixture(scope="module")
def recorded() -> tuple[Run, list[Record]]:
    """Eight evaluations of online bin packing by a real LLM, none better than best fit."""
    return load_log(gzip.decompress(PATH.read_bytes()).decode())


@pytest.fixture(scope="module")
def gate(recorded: tuple[Run, list[Record]]) -> Iterator[Gate]:
    with Sandbox(Limits(call=2.0)) as sandbox:
        if sandbox.level() == "weak":
            pytest.skip("this machine cannot lock a worker; see the level's report")
        yield Gate(*recorded, lambda: [], sandbox, check=lambda make: [])


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: f.does)
def test_a_frame_is_on_offer_where_its_rule_changes_a_decision(
    frame: Frame, gate: Gate, recorded: tuple[Run, list[Record]]
) -> None:
    holes = FILLED[frame.does] | ({"when": "lost <= noise"} if frame.hook == "accept" else {})
    verdict = gate.judge(frame.source("Mine", "a rule", holes))
    if frame in able(recorded[0].space):
        assert verdict.admitted, verdict.words
        assert verdict.figures["influence"] > 0
    else:
        assert verdict.rule == "influence"
    alone = "there is one parameter only, so start from another trial" in verdict.words
    assert alone == (frame.hook == "plan" and not verdict.admitted)


@pytest.mark.parametrize("seed", range(3))
def test_a_session_chooses_among_these_only(seed: int, recorded: tuple[Run, list[Record]]) -> None:
    run, records = recorded
    history = History(run.space, records)
    view = history.view(step=9, slots=1, left=5, rng=generator(0))
    explore = BY_FRAMES.explore(view, [], seed)["properties"]
    rules = [option for n in (1, 2, 3) for option in explore[f"rule{n}"]["anyOf"]]
    does = {deed for rule in rules for deed in rule["properties"]["then"]["enum"]}
    assert does == {frame.does for frame in able(run.space)}
