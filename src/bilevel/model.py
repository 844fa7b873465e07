"""The values that the loop passes on and the log keeps. All are frozen and made of JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bilevel.calls import TOO_LONG as TOO_LONG
from bilevel.calls import UNUSABLE as UNUSABLE
from bilevel.calls import Call as Call
from bilevel.calls import Message as Message
from bilevel.calls import Prompt as Prompt
from bilevel.calls import Reply as Reply
from bilevel.jobs import Job as Job
from bilevel.jobs import JobResult as JobResult
from bilevel.jobs import Outcome as Outcome
from bilevel.layers import Borrowed as Borrowed
from bilevel.layers import Decision as Decision
from bilevel.layers import Fault as Fault
from bilevel.layers import Layering as Layering
from bilevel.layers import MechanismSource as MechanismSource
from bilevel.sessions import Attempt as Attempt
from bilevel.sessions import Begun as Begun
from bilevel.sessions import Session as Session
from bilevel.spending import Ask as Ask
from bilevel.spending import Denial as Denial
from bilevel.spending import Estimate as Estimate
from bilevel.spending import Opening as Opening
from bilevel.spending import Prices as Prices
from bilevel.spending import Rate as Rate
from bilevel.spending import Share as Share
from bilevel.trials import Draft as Draft
from bilevel.trials import Edit as Edit
from bilevel.trials import Move as Move
from bilevel.trials import Param as Param
from bilevel.trials import Role as Role
from bilevel.trials import Space as Space
from bilevel.trials import Status as Status
from bilevel.trials import Trial as Trial
from bilevel.trials import Value as Value
from bilevel.trials import Values as Values

Direction = Literal["min", "max"]
Strategy = Literal["explore", "exploit", "focused", ""]
StopReason = Literal["done", "interrupted", "wall", "budget", "refused", "failed"]


@dataclass(frozen=True)
class Objective:
    """The metric to optimise, by the name under which a job reports it.

    shown: other metrics that say why a value is what it is (steps, memory); proposers see them.
    """

    metric: str
    direction: Direction = "min"
    unit: str = ""
    shown: tuple[str, ...] = ()

    def score(self, value: float) -> float:
        """Higher is better, always: the metric, negated when it is to be minimised."""
        return -value if self.direction == "min" else value

    def value(self, score: float) -> float:
        """The metric's own value again, from a score."""
        return -score if self.direction == "min" else score


@dataclass(frozen=True)
class Refusal:
    """A proposal that cost no evaluation: the reply stayed bad, or repeats an earlier trial.

    rests: parameters that it named for nothing new; they rest until the next evaluation.
    """

    step: int
    move: Move
    reason: str
    values: Values | None = None
    hypothesis: str = ""
    rests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """One step up to the point of evaluating: `queue` holds the draft ids to run, best first."""

    step: int
    moves: tuple[Move, ...]
    drafts: tuple[Draft, ...]
    refusals: tuple[Refusal, ...]
    queue: tuple[int, ...]


@dataclass(frozen=True)
class Steering:
    """All that Level 1.5 may say. at: the step from which it holds. cycle: of the outer loop.

    reasons: by parameter, why it was frozen or opened, or why a wish for that was not granted.
    """

    frozen: tuple[str, ...] = ()
    guidance: str = ""
    strategy: Strategy = ""
    at: int = 0
    cycle: int = 0
    diagnosis: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """The run paused or ended: done, interrupted, refused (too many refusals) or failed; or for
    a limit that the next call or evaluation could cross: wall, or budget for any other.
    """

    step: int
    reason: StopReason
    detail: str = ""


@dataclass(frozen=True)
class Phase:
    """What the loop does now; for whoever watches, not for the log."""

    kind: Literal["propose", "baseline", "search", "confirm", "steer", "research", "wait"]
    step: int
    trial: int | None = None
    draft: Draft | None = None


@dataclass(frozen=True)
class OuterPlan:
    """Which outer levels take part in a run, and when they speak.

    steering: Level 1.5, after every `every` evaluations (a cycle; K in the paper, 5). research:
    Level 2, after every `cycles` cycles (M, 2); `sham` holds its sessions and leaves their code
    out. layers: admitted mechanisms that may be on the stack at a time. candidates: sources asked
    for in a session before repairs, repairs: of a refused one. domains: whether the prompts hint
    at fields to borrow from. screening: whether the gate tries a source on a surrogate. sources:
    how Level 2 comes by them, by the rounds of a session, or by one that is submitted before a
    step, which may be any. beside: whether sessions of rounds are held while the inner loop goes
    on; if not, the two take turns. writes: what they write, the expressions of a frame, or whole
    classes until a session admits none.
    """

    steering: bool = False
    research: Literal["off", "on", "sham"] = "off"
    every: int = 5
    cycles: int = 2
    layers: int = 3
    candidates: int = 4
    repairs: int = 3
    domains: Literal["hint", "none"] = "none"
    screening: bool = True
    sources: Literal["rounds", "submitted"] = "rounds"
    beside: bool = False
    writes: Literal["frames", "classes"] = "frames"


@dataclass(frozen=True)
class Run:
    """What a run was started with; this and its log are enough to replay it.

    source: where the task was read from, fingerprint: sha256 of what it runs, so that a resumed
    run notices a task that changed. evals: evaluations of proposals; baselines and confirmations
    are counted apart. baselines: measurements of the default configuration before the search, at
    least 2. confirms: fresh measurements of the winner after it. wall: seconds, None for no limit.
    slots: evaluations that run at a time.
    llm: name of the model, llm_outer: of the one that Levels 1.5 and 2 ask, "" for the same.
    stack: mechanisms as NAME@SHA, lowest first; states: with what JSON state those begin that
    remember earlier runs, by sha. sources: by sha, the texts of those that are a user's own files.
    outer: the outer loop. sandbox: how well generated code was held, "" where there was none.
    created: ISO 8601, UTC. machine: what it ran on, and of which commit, for the report
    only. library: what it was given of the library, those that join first.
    limits: of what it may spend beside evals and wall, by name, see `budget`.
    tape: the recorded run, or its file, whose replies answer this one's requests, "" for none;
    mixed: whether the LLM is asked for what the tape lacks, or that is an error.
    hypotheses: whether proposals say why they should help. allow_weak: the user's leave to run
    generated code here even where nothing holds it, which no file brings.
    """

    id: str
    task: str
    space: Space
    objective: Objective
    brief: str
    seed: int
    evals: int
    baselines: int = 2
    confirms: int = 5
    wall: float | None = None
    llm: str = ""
    slots: int = 1
    stack: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    outer: OuterPlan = field(default_factory=OuterPlan)
    sandbox: str = ""
    source: str = ""
    fingerprint: str = ""
    created: str = ""
    version: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)
    library: tuple[Borrowed, ...] = ()
    llm_outer: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)
    tape: str = ""
    mixed: bool = False
    hypotheses: bool = True
    allow_weak: bool = False


Record = (
    Proposal | Trial | Call | Decision | Fault | Layering | Steering | Session | Stop
    | MechanismSource | Prices | Opening | Ask | Denial | Estimate | Begun
)  # fmt: skip
