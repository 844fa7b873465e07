"""The MCP server, driven over stdio by the client of MCP's own SDK, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from bilevel.assemble import replayed
from bilevel.model import Call, Layering, Session, Stop, Trial
from bilevel.workspace import Workspace
from resumable import SCRIPT, TASK
from threelevels import BROKEN, SOURCE, held

mcp = pytest.importorskip("mcp", reason="the extra bilevel[mcp] is not installed")

from bilevel.serving.server import server  # noqa: E402 - needs the extra

Ask = Callable[..., Awaitable[dict[str, Any]]]
Talk = Callable[[Ask], Awaitable[None]]
SERVE = "from bilevel.cli.cli import main; main()"
PATIENCE = 110  # seconds; a server takes two to start on an idle machine


def write_task(folder: Path) -> str:
    """The path of a quick script's task, written into the folder; best at RATE 0.2."""
    (folder / "train.py").write_text(SCRIPT)
    (folder / "task.toml").write_text(TASK)
    return str(folder / "task.toml")


class Refused(Exception):
    """What a tool said in place of an answer."""


def talk(home: Path, said: Talk, apart: bool = False) -> None:
    """Have a client of a new server say something to it.

    apart: over stdio to a process of its own, else within this one.
    """

    async def main() -> None:
        arguments = ["-c", SERVE, "mcp", "--home", str(home)]
        process = mcp.StdioServerParameters(command=sys.executable, args=arguments)
        to = process if apart else server(home)
        async with mcp.Client(to, read_timeout_seconds=PATIENCE) as client:

            async def ask(tool: str, **given: Any) -> dict[str, Any]:
                result = await client.call_tool(tool, given)
                if result.is_error:
                    raise Refused(result.content[0].text)
                found: dict[str, Any] = result.structured_content
                return found

            await said(ask)

    anyio.run(main)


def test_a_client_runs_a_whole_search(tmp_path: Path) -> None:
    task, home = write_task(tmp_path), tmp_path / "state"

    async def said(ask: Ask) -> None:
        begun = await ask("start_run", task=task, evals=2, mechanisms=False)
        assert begun["state"] == "waits for you"
        assert begun["asks"]["kind"] == "proposal"
        assert "RATE" in begun["asks"]["messages"][-1]["content"]
        run = begun["run"]
        with pytest.raises(Refused, match="nothing was taken"):
            await ask("propose", run=run, changes={"NOPE": 1}, hypothesis="It is no parameter.")
        first = await ask("propose", run=run, changes={"RATE": 0.3}, hypothesis="Lower is better.")
        assert [t["values"]["RATE"] for t in first["trials"]] == [0.3]
        assert first["evaluations"] == 1
        with pytest.raises(Refused, match=r"0\.3 is not 0\.01 to 0\.286 or 0\.314 to "):
            await ask("propose", run=run, changes={"RATE": 0.3}, hypothesis="Once more so.")
        last = await ask("propose", run=run, changes={"BATCH": 512}, hypothesis="Smaller.")
        ended = last if last["state"] == "ended" else await ask("status", run=run, wait=60)
        assert ended["stop"]["reason"] == "done"
        with pytest.raises(Refused, match="has ended"):
            await ask("propose", run=run, changes={"RATE": 0.1}, hypothesis="Over the budget.")

        listed = (await ask("list_runs"))["runs"]
        assert [(x["run"], x["llm"], x["evaluations"]) for x in listed] == [(run, "mcp", 2)]
        summary = await ask("read_run", run=run)
        assert summary["best"]["values"] == {"RATE": 0.3, "BATCH": 512}
        trace = await ask("read_run", run=run, what="trace")
        assert len(trace["trials"]) == summary["usage"]["jobs"]
        assert any("RATE 0.5 -> 0.3" in line for line in trace["lines"])
        best = await ask("read_run", run=run, what="incumbent")
        assert best["incumbent"]["values"]["BATCH"] == 512
        assert (await ask("read_run", run=run, what="mechanisms"))["mechanisms"] == []
        assert (await ask("read_run", run=run, what="ledger"))["entries"] == []
        with pytest.raises(Refused, match="nope-1"):
            await ask("read_run", run="nope-1")

    talk(home, said, apart=True)
    workspace = Workspace(home)
    run = workspace.latest()
    records = workspace.records(run.id)
    assert sum(isinstance(r, Trial) and r.role == "search" for r in records) == 2
    assert replayed(run, records).difference is None


@pytest.mark.timeout(400)  # the gate starts a dozen locked-in processes
@pytest.mark.skipif(not held(), reason="this machine cannot lock generated code in")
def test_a_submitted_mechanism_passes_the_gate_and_joins(tmp_path: Path) -> None:
    task, home = write_task(tmp_path), tmp_path / "state"

    async def said(ask: Ask) -> None:
        begun = await ask("start_run", task=task, evals=6, screening=False)
        run = begun["run"]
        assert begun["asks"]["kind"] == "mechanism"
        guide = await ask("mechanism_guide")
        assert "class" in guide["result"]
        await ask("propose", run=run, changes={"RATE": 0.4}, hypothesis="A first step.")
        await ask("propose", run=run, changes={"RATE": 0.35}, hypothesis="A second step.")
        asked = await ask("request", run=run)
        assert asked["asks"]["kind"] == "proposal"
        with pytest.raises(Refused, match="before the next proposal"):
            await ask("submit_mechanism", run=run, source=SOURCE)
        await ask("propose", run=run, changes={"RATE": 0.3}, hypothesis="A third step.")
        refused = await ask("submit_mechanism", run=run, source=BROKEN)
        assert "problem" in refused
        assert refused["asks"]["kind"] == "mechanism"
        joined = await ask("submit_mechanism", run=run, source=SOURCE)
        assert joined["mechanism"]["name"] == "EverySecond"
        assert joined["mechanism"]["admitted"], joined["mechanism"]["gate"]
        assert joined["stack"][0]["action"] == "add"
        known = await ask("read_run", run=run, what="mechanisms")
        assert [m["source"]["name"] for m in known["mechanisms"]] == ["EverySecond"]
        state = joined
        while state["state"] != "ended":
            if state["state"] == "waits for you":
                rate = 0.24 * 0.7 ** state["evaluations"]
                state = await ask(
                    "propose", run=run, changes={"RATE": rate}, hypothesis="Go on down."
                )
            else:
                state = await ask("status", run=run, wait=60)

    talk(home, said)
    workspace = Workspace(home)
    run = workspace.latest()
    records = workspace.records(run.id)
    (session,) = (r for r in records if isinstance(r, Session))
    assert [bool(a.rule) for a in session.attempts] == [True, False]
    assert sum(isinstance(r, Layering) for r in records) >= 1
    assert replayed(run, records).difference is None


def test_a_stopped_run_goes_on_under_another_server(tmp_path: Path) -> None:
    task, home = write_task(tmp_path), tmp_path / "state"

    async def begin(ask: Ask) -> None:
        begun = await ask("start_run", task=task, evals=2, mechanisms=False)
        await ask("propose", run=begun["run"], changes={"RATE": 0.4}, hypothesis="A first step.")
        stopped = await ask("stop", run=begun["run"])
        assert stopped["stop"]["reason"] == "interrupted"

    async def end(ask: Ask) -> None:
        (run,) = (r["run"] for r in (await ask("list_runs"))["runs"])
        with pytest.raises(Refused, match="resume_run it"):
            await ask("status", run=run)
        asked = await ask("resume_run", run=run)
        assert asked["asks"]["kind"] == "proposal"
        assert asked["evaluations"] == 1
        await ask("propose", run=run, changes={"RATE": 0.3}, hypothesis="The second step.")
        assert (await ask("status", run=run, wait=60))["stop"]["reason"] == "done"

    talk(home, begin)
    talk(home, end)
    workspace = Workspace(home)
    records = workspace.records(workspace.latest().id)
    assert [r.reason for r in records if isinstance(r, Stop)] == ["interrupted", "done"]
    assert all(r.model == "mcp" for r in records if isinstance(r, Call))


def test_a_client_that_leaves_leaves_a_run_that_can_go_on(tmp_path: Path) -> None:
    task, home = write_task(tmp_path), tmp_path / "state"

    async def begin(ask: Ask) -> None:
        await ask("start_run", task=task, evals=2, mechanisms=False)

    talk(home, begin)
    workspace = Workspace(home)
    stops = [r for r in workspace.records(workspace.latest().id) if isinstance(r, Stop)]
    assert [s.reason for s in stops] == ["interrupted"]


def test_a_run_of_another_llm_is_not_taken_over(tmp_path: Path) -> None:
    home = tmp_path / "state"
    workspace = Workspace(home)
    from bilevel.planning import Settings, begin

    run = begin(workspace, write_task(tmp_path), Settings(evals=1, llm="scripted"))
    assert replace(run, id="").llm == "scripted"

    async def said(ask: Ask) -> None:
        with pytest.raises(Refused, match=f"bilevel resume {run.id}"):
            await ask("resume_run", run=run.id)

    talk(home, said)
