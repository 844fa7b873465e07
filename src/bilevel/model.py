"""The values that the loop passes on and the log keeps. All are frozen and made of JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bilevel.sessions import Attempt as Attempt
from bilevel.sessions import Begun as Begun
from bilevel.sessions import Session as Session
from bilevel.space import Param as Param
from bilevel.space import Space as Space
from bilevel.space import Value as Value
from bilevel.space import Values as Values
from bilevel.spending import Ask as Ask
from bilevel.spending import Denial as Denial
from bilevel.spending import Estimate as Estimate
from bilevel.spending import Opening as Opening
from bilevel.spending import Prices as Prices
from bilevel.spending import Rate as Rate
from bilevel.spending import Share as Share

Status = Literal["ok", "crash", "timeout", "invalid"]
Role = Literal["baseline", "search", "confirm"]
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
class Move:
    """What to try next.

    parents: ids of the trials to start from; the first one's values are the base, the others are
    shown beside it. values: the whole configuration; then no LLM call is made. focus: the only
    parameters that may change (empty: all that are not frozen). note: advice for the proposer.
    tag: by which a mechanism finds its own trials again. writer: who fills in the values.
    seed: which measurement this is, 0 on the search's common seed, k on the k-th fresh one; the
    same values on another seed are no repeat, and not comparable with those on the common seed.
    since: id of the first trial that the proposer is shown, besides the baseline.
    """

    parents: tuple[int, ...] = ()
    values: Values | None = None
    focus: tuple[str, ...] = ()
    note: str = ""
    tag: str = ""
    writer: str = "llm"
    seed: int = 0
    since: int = 0

    def edit(self, **fields: Any) -> Move:
        """This move with some fields changed: `move.edit(focus=("LR",), note="go lower")`."""
        return replace(self, **fields)


@dataclass(frozen=True)
class Edit:
    """A draft's values as they were before a mechanism edited them, and why it did."""

    before: Values
    why: str


@dataclass(frozen=True)
class Draft:
    """A complete configuration that was proposed and not yet evaluated."""

    id: int
    step: int
    move: Move
    values: Values
    hypothesis: str = ""
    edits: tuple[Edit, ...] = ()

    def edit(self, values: Values, why: str) -> Draft:
        """This draft with other values, its old ones kept on record."""
        return replace(self, values=values, edits=(*self.edits, Edit(self.values, why)))


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
class Trial:
    """One evaluated configuration.

    score: higher is better, None unless status is "ok". metrics: as the job reported them.
    seconds: the job's wall-clock time. role: baseline and confirm trials measure noise and are
    never candidates, but for the first baseline, which is the first incumbent.
    error: what went wrong, in a few lines.
    """

    id: int
    draft: Draft | None
    values: Values
    status: Status
    score: float | None
    metrics: Mapping[str, float]
    seconds: float
    seed: int
    kept: bool
    error: str = ""
    role: Role = "search"


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
class MechanismSource:
    """A mechanism as text; `sha` (sha256 of the source) is its identity everywhere."""

    sha: str
    name: str
    source: str
    rationale: str = ""
    domain: str = ""
    origin: str = "hand"
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Borrowed:
    """A mechanism of the library as it stood when a run began.

    record: what earlier runs say of it, in a line; credit: the mean there, a share of decisions.
    joins: whether it is on the stack from the first step; the others are for Level 2 to build on.
    """

    source: MechanismSource
    record: str
    credit: float
    joins: bool


@dataclass(frozen=True)
class Decision:
    """What a layer made of the decision that came to it; before and after are JSON texts.

    key: the step, for `accept` the trial. ms: milliseconds. state: the layer's, as JSON, after it.
    """

    step: int
    layer: str
    hook: Literal["plan", "screen", "accept"]
    key: int
    before: str
    after: str
    ms: float
    state: str = "{}"


@dataclass(frozen=True)
class Fault:
    """A layer's failure: this one decision fell back to what came in."""

    step: int
    layer: str
    hook: str
    kind: str
    message: str


@dataclass(frozen=True)
class Layering:
    """A layer joined or left the stack, and why."""

    step: int
    sha: str
    action: Literal["add", "remove"]
    why: str


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    """What is said to the LLM. cut: what was left out of it for its length, "" for nothing."""

    messages: tuple[Message, ...]
    cut: str = ""


TOO_LONG = "context"  # how a reply ended, where the model could not read the prompt and answer it
UNUSABLE = "unusable"  # where it is paid for and holds nothing to use


@dataclass(frozen=True)
class Reply:
    """A completion. Tokens are the server's counts; `tokens_cached` of `tokens_in` were reused.

    finish: why it ended; of one that ended as TOO_LONG or UNUSABLE the text says what was wrong.

    model: as the server names it. attempts: requests that it took, 0 for a reply taken over from
    another run. temperature: as it was sent, None if it was left to the server. form: in which way
    the server was held to the schema, "" where it was not or is not known. request_id: the
    provider's. taken: the run whose tape gave the reply, "" for one of the model itself. cost: in
    US dollars, where whoever answered says it itself, else None. counted: whether it tells its
    tokens; where not, they are unknown and stand as 0.
    """

    text: str
    model: str
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    seconds: float = 0.0
    reasoning: str = ""
    finish: str = "stop"
    attempts: int = 1
    temperature: float | None = None
    form: str = ""
    request_id: str = ""
    taken: str = ""
    cost: float | None = None
    counted: bool = True

    @property
    def answers(self) -> bool:
        """Whether there is an answer in it."""
        return self.finish not in (TOO_LONG, UNUSABLE)


@dataclass(frozen=True)
class Call:
    """An LLM call with everything needed to replay it. key: hash of the request, see tape.py.

    model: which of the run's models was asked, by the run's name for it; "" in logs of before.
    cut: what was left out of the messages for their length, "" for nothing.
    """

    key: str
    step: int
    level: Literal["1", "1.5", "2"]
    purpose: str
    messages: tuple[Message, ...]
    schema: str
    seed: int
    max_tokens: int
    reply: Reply
    model: str = ""
    cut: str = ""


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
    on; if not, the two take turns.
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


@dataclass(frozen=True)
class Run:
    """What a run was started with; this and its log are enough to replay it.

    source: where the task was read from, fingerprint: sha256 of what it runs, so that a resumed
    run notices a task that changed. evals: evaluations of proposals; baselines and confirmations
    are counted apart. baselines: measurements of the default configuration before the search, at
    least 2. confirms: fresh measurements of the winner after it. wall: seconds, None for no limit.
    llm: name of the model, llm_outer: of the one that Levels 1.5 and 2 ask, "" for the same.
    stack: mechanisms as NAME@SHA, lowest first; states: with what JSON state those begin that
    remember earlier runs, by sha. sources: by sha, the texts of those that are a user's own files.
    outer: the outer loop. sandbox: how well generated code was held, "" where there was none.
    created: ISO 8601, UTC. machine: what it ran on, for the report only. library: what
    it was given of the library, those that join first.
    limits: of what it may spend beside evals and wall, by name, see `budget`.
    tape: the recorded run, or its file, whose replies answer this one's requests, "" for none;
    mixed: whether the LLM is asked for what the tape lacks, or that is an error.
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


@dataclass(frozen=True)
class Job:
    """A command in a folder of its own.

    folder: copied for the job, None for an empty one. files: written over the copy, by relative
    path. link: relative paths that are linked, not copied. timeout: seconds of wall-clock time,
    after which the whole process tree is killed. max_output: bytes of output after which it is
    killed as well. collect: files whose ends are read back beside the output.
    """

    command: tuple[str, ...]
    folder: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    link: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    timeout: float = 600.0
    max_output: int = 64 * 2**20
    collect: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobResult:
    """How a job ended. exit: its status, negative for a signal.

    killed: the rule for which it was killed ("" if it was not); `timeout` or `output`.
    output: the end of stdout and stderr together, at most 1 MiB. files: the ends of `collect`.
    """

    exit: int
    output: str
    seconds: float
    killed: Literal["", "timeout", "output", "stopped"] = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a task read from a job's result. value: the objective's metric, None unless ok."""

    status: Status
    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


Record = (
    Proposal | Trial | Call | Decision | Fault | Layering | Steering | Session | Stop
    | MechanismSource | Prices | Opening | Ask | Denial | Estimate | Begun
)  # fmt: skip
