"""The MCP server: runs that a coding agent reads, and runs in which it is the LLM.

A run that is started here is a run like any other: loop, budget, gate, log and replay are the same.
Only its LLM is the client: what the run asks waits until a tool answers it. Its Level 2 takes
mechanisms that are submitted, before any step, in place of holding sessions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from bilevel import __version__
from bilevel.errors import BilevelError, ConfigError, MissingExtra
from bilevel.llm.others import MCP
from bilevel.model import OuterPlan, Run
from bilevel.planning import Settings, begin
from bilevel.prompts import render
from bilevel.sandbox.policy import Wall
from bilevel.serving import reading
from bilevel.serving.desk import Question
from bilevel.serving.reading import Json, Part
from bilevel.serving.underway import Underway
from bilevel.workspace import Workspace

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError as error:
    raise MissingExtra(
        "the MCP server needs the official SDK; install it: pip install 'bilevel[mcp]'"
    ) from error

P = ParamSpec("P")
R = TypeVar("R")
WAIT = 60.0
GRACE = 10.0  # seconds that runs have to stop in when the client leaves
INSTRUCTIONS = """\
bilevel optimises a task's parameters by experiments. Start a run with start_run; you are its LLM.
Then propose one small change at a time (propose): it is evaluated, and kept if it is better.
Between two proposals you may submit a search mechanism as code (submit_mechanism, mechanism_guide),
which a gate admits to the run or refuses in words. read_run shows any run. A tool that waits for an
experiment returns after `wait` seconds with state "at work"; then ask status again."""

__all__ = ["Runs", "server"]


class Runs:
    """The runs of one store, and those of them that go in this process.

    sandbox: what holds the mechanisms of runs that are started here.
    """

    def __init__(self, home: Path, allow_weak: bool = False, sandbox: Wall = "auto") -> None:
        self._home = home
        self._allow_weak = allow_weak
        self._sandbox = sandbox
        self._underway: dict[str, Underway] = {}

    def list_runs(self) -> Json:
        """All runs of the store, oldest first: task, metric, evaluations, incumbent."""
        workspace = self._workspace()
        with closing(workspace.store):
            return {"runs": reading.listed(workspace)}

    def read_run(self, run: str, what: Part = "summary") -> Json:
        """A run's summary, trace (parameters and every trial), incumbent, mechanisms (with their
        source and influence) or ledger (each decision that a mechanism changed)."""
        workspace = self._workspace()
        with closing(workspace.store):
            found = workspace.store.run(run)
            return reading.part(found, workspace.records(run), what)

    def start_run(
        self,
        task: str,
        evals: int = 30,
        seed: int = 0,
        mechanisms: bool = True,
        steering: bool = False,
        screening: bool = True,
        stack: list[str] | None = None,
        wait: float = WAIT,
    ) -> Json:
        """Start a run of a task (a task.toml, its folder, a script, or a built-in name) in which
        you are the LLM. evals: proposals that will be evaluated, the budget. mechanisms: whether
        you may submit search mechanisms. steering: whether you are asked to steer (Level 1.5)
        after every five evaluations, for which there is `answer`. screening: whether the gate
        tries a mechanism on a surrogate, which takes a minute or more. stack: search mechanisms
        from the start, by name. The baseline is measured first."""
        outer = OuterPlan(
            steering=steering,
            research="on" if mechanisms else "off",
            screening=screening,
            sources="submitted",
        )
        settings = Settings(
            evals,
            seed,
            MCP,
            stack=tuple(stack or ()),
            outer=outer,
            allow_weak=self._allow_weak,
            sandbox=self._sandbox,
        )
        workspace = self._workspace()
        with closing(workspace.store):
            return self._go_on(begin(workspace, task, settings), wait)

    def resume_run(self, run: str, wait: float = WAIT) -> Json:
        """Go on with a run that was started here and stopped, or whose server ended."""
        workspace = self._workspace()
        with closing(workspace.store):
            found = workspace.store.run(run)
        if found.llm != MCP:
            raise ConfigError(
                f"the LLM of {run} is {found.llm}, not an MCP client; resume it with "
                f"`bilevel resume {run}`"
            )
        return self._go_on(found, wait)

    def status(self, run: str, wait: float = 0.0) -> Json:
        """What a run does now, what it asks of you, how far it is, and what came of your last
        answer. wait: seconds to wait for it to ask something or to end. An offer to submit a
        mechanism is passed by proposing."""
        underway = self._of(run)
        underway.wait(wait)
        return self._status(underway)

    def request(self, run: str, wait: float = WAIT) -> Json:
        """What the run asks of you for its next step, with prompt and JSON schema; an offer to
        submit a mechanism is passed, so submit one before."""
        underway = self._of(run)
        underway.ask(wait, passing=True)
        return self._status(underway)

    def propose(
        self,
        run: str,
        changes: dict[str, int | float | str | bool],
        hypothesis: str,
        wait: float = WAIT,
    ) -> Json:
        """Propose the next configuration: by name the parameters to change, starting from the one
        that `request` names (the incumbent as a rule), and why that should help. It is evaluated
        under the run's rules and budget. The reply holds the trials that came of it, or why it was
        refused."""
        underway = self._of(run)
        question = self._asked(underway, "proposal", passing=True)
        listed = [{"name": name, "value": value} for name, value in changes.items()]
        text = json.dumps({"changes": listed, "hypothesis": hypothesis})
        return self._answered(underway, question, text, wait)

    def answer(self, run: str, text: str, wait: float = WAIT) -> Json:
        """Answer whatever the run asks now by a text in the form that it asks for; for steering."""
        underway = self._of(run)
        question = underway.question
        if question is None:
            raise ConfigError(f"{run} asks nothing now; see its status")
        return self._answered(underway, question, text, wait)

    def mechanism_guide(self) -> str:
        """How a search mechanism is written: its contract, on one page."""
        return render("contract")

    def submit_mechanism(self, run: str, source: str, wait: float = 10 * WAIT) -> Json:
        """Submit the source of a search mechanism, one Python class (see mechanism_guide). The gate
        admits it, and it joins the run's stack at once, or refuses it in words; then mend it and
        submit it again, or go on with `propose`. Possible before any step's proposal."""
        underway = self._of(run)
        if underway.run.outer.research == "off":
            raise ConfigError(f"{run} was started with mechanisms=false; start another run")
        if not source.strip():
            raise ConfigError("the source is empty; give a Python class")
        question = self._asked(underway, "mechanism", passing=False)
        return self._answered(underway, question, source, wait)

    def stop(self, run: str, wait: float = WAIT) -> Json:
        """Stop a run as soon as what is being evaluated ends; resume_run goes on with it."""
        underway = self._of(run)
        underway.end(wait)
        return self._status(underway)

    def close(self) -> None:
        """Have all runs stop; those that cannot within GRACE seconds are resumed from their log."""
        for underway in self._underway.values():
            underway.end(GRACE)

    def _workspace(self) -> Workspace:
        return Workspace(self._home)

    def _go_on(self, run: Run, wait: float) -> Json:
        here = self._underway.get(run.id)
        if here is None or here.ended:
            here = self._underway[run.id] = Underway(self._home, run)
        here.wait(wait)
        return self._status(here)

    def _of(self, run: str) -> Underway:
        if run not in self._underway:
            here = ", ".join(self._underway) or "none"
            raise ConfigError(
                f"{run} does not go in this server (here: {here}); start_run or resume_run it"
            )
        return self._underway[run]

    def _asked(self, underway: Underway, kind: str, passing: bool) -> Question:
        """The open question, of that kind. Raises ConfigError where the run asks no such thing."""
        question = underway.ask(WAIT, passing)
        name = underway.run.id
        if question is None and underway.ended:
            raise ConfigError(f"{name} has ended; see its status")
        if question is None:
            raise ConfigError(f"{name} is still at work ({underway.phase_now}); ask status again")
        if question.kind != kind:
            remedy = {
                "proposal": "propose first; a mechanism can be submitted before the next proposal",
                "steering": "answer that first, with the tool `answer`",
            }
            raise ConfigError(
                f"{name} asks for a {question.kind} now; {remedy.get(question.kind, 'answer it')}"
            )
        return question

    def _answered(self, underway: Underway, question: Question, text: str, wait: float) -> Json:
        """What came of an answer, once the run asks again or has ended."""
        underway.answer(question, text)
        underway.wait(wait)
        return self._status(underway)

    def _status(self, underway: Underway) -> Json:
        workspace = self._workspace()
        with closing(workspace.store):
            return reading.status(underway, workspace.records(underway.run.id))


def server(home: Path, allow_weak: bool = False, sandbox: Wall = "auto") -> MCPServer[Any]:
    """The server of the store in a folder; `run()` serves it over stdio."""
    runs = Runs(home, allow_weak, sandbox)

    @asynccontextmanager
    async def lifespan(_: MCPServer[Any]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            runs.close()

    made = MCPServer(
        "bilevel",
        instructions=INSTRUCTIONS,
        version=__version__,
        lifespan=lifespan,
        log_level="WARNING",
    )
    for tool in (
        runs.list_runs, runs.read_run, runs.start_run, runs.resume_run, runs.status, runs.request,
        runs.propose, runs.answer, runs.mechanism_guide, runs.submit_mechanism, runs.stop,
    ):  # fmt: skip
        made.add_tool(_told(tool))
    return made


def _told(tool: Callable[P, R]) -> Callable[P, R]:
    """The tool, its errors in words for the client."""

    @functools.wraps(tool)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return tool(*args, **kwargs)
        except BilevelError as error:
            raise ToolError(str(error)) from error

    return told
