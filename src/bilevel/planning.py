"""From what a user asks of a run to the run that the store holds, before it begins."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import bilevel
from bilevel import stacks
from bilevel.budget.prices import LOCAL, LOOPBACK, kind_of
from bilevel.budget.terms import Terms, agreed, put
from bilevel.ensemble import members
from bilevel.errors import ConfigError, MissingExtra
from bilevel.library.choice import borrow
from bilevel.llm.naming import check_spec
from bilevel.llm.others import NAMES
from bilevel.llm.providers import PROVIDERS
from bilevel.machine import machine
from bilevel.model import Borrowed, OuterPlan, Run
from bilevel.protocols import Task
from bilevel.sandbox.policy import Wall
from bilevel.sandbox.sandboxed import held
from bilevel.stacks import entries, needs_sandbox, remembered
from bilevel.task_jobs import at_a_time, find_task, fingerprint
from bilevel.workspace import Workspace

# What the scripts of shipped tasks import, all of it in the extra of the name `gpt`.
IMPORTS = {"gpt": ("numpy", "torch"), "gpt-cuda": ("numpy", "torch")}

# A number of parameters in a model's name. `8x7b` and `a3b` give it for a part, so neither counts.
SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
UNITS = {"b": 1e9, "m": 1e6}
SMALL = 4e9  # parameters; of one with 1.5e9, classes of one session in six were admitted


@dataclass(frozen=True)
class Settings:
    """What the user asks of a run. None takes the task's own value.

    evals: evaluations of proposals. wall: seconds after which no further step begins.
    stack: names of mechanisms, lowest first, or paths of files. remember: whether one that
    remembers earlier runs may. states: by name in the stack, as JSON the attributes with which a
    mechanism begins. outer: the outer loop. allow_weak: whether code that is not ours may run where
    the machine cannot lock it in. sandbox: what holds it, `auto` for the machine's own means.
    hypotheses: whether proposals say why they should help.
    library: which of its mechanisms the run is given, as `best` or
    `alma:2`, "" for none; loan: those that were chosen before, in its place.
    terms: limits beside evals and wall, and prices.
    """

    evals: int = 30
    seed: int = 0
    llm: str = "embedded"
    wall: float | None = None
    slots: int = 1
    baselines: int | None = None
    confirms: int | None = None
    stack: tuple[str, ...] = ()
    remember: bool = True
    states: Mapping[str, str] = field(default_factory=dict)
    outer: OuterPlan = field(default_factory=OuterPlan)
    allow_weak: bool = False
    sandbox: Wall = "auto"
    llm_outer: str = ""
    tape: str = ""
    mixed: bool = False
    hypotheses: bool = True
    library: str = ""
    loan: tuple[Borrowed, ...] = ()
    terms: Terms = field(default_factory=Terms)


def begin(workspace: Workspace, name: str, settings: Settings) -> Run:
    """A new run, entered into the store. Raises as `checked`."""
    return enter(workspace, checked(workspace, name, settings), settings.terms)


def checked(workspace: Workspace, name: str, settings: Settings) -> Run:
    """The run that `begin` enters, without a name. Raises ConfigError and MissingExtra as that."""
    run = planned(workspace, name, settings)
    _check_imports(run)
    agreed(run, settings.terms)
    return run


def enter(workspace: Workspace, planned: Run, on: Terms | None = None) -> Run:
    """The run with a name and the time of now, entered into the store. on: says prices.

    Raises ConfigError where its limits need a price that is not known, and MissingExtra where its
    task needs a library that is not installed.
    """
    _check_imports(planned)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = replace(planned, id=workspace.store.next_id(planned.task), created=created)
    put(workspace.store, run, on or Terms())
    return run


def planned(workspace: Workspace, name: str, settings: Settings) -> Run:
    """What is asked for as a run, for settings that make sense, else ConfigError.

    Whether its task's libraries and its prices are here is not asked: see `checked`.
    """
    for spec in (*members(settings.llm), settings.llm_outer):
        check_spec(spec)
    task, source = find_task(name)
    baselines = task.baselines if settings.baselines is None else settings.baselines
    confirms = task.confirms if settings.confirms is None else settings.confirms
    _check_sizes(settings, baselines, confirms)
    stack, own = entries(settings.stack)
    run = Run(
        id="",
        task=task.name,
        space=task.space,
        objective=task.objective,
        brief=task.brief(),
        seed=settings.seed,
        evals=settings.evals,
        baselines=baselines,
        confirms=confirms,
        wall=settings.wall,
        llm=settings.llm,
        llm_outer=_outer_model(settings),
        tape=settings.tape,
        mixed=settings.mixed,
        hypotheses=_hypotheses(task, settings),
        limits=settings.terms.limits,
        slots=at_a_time(task, settings.slots),
        stack=stack,
        states=_states(workspace, task, settings),
        sources=own,
        outer=_screened(settings.outer),
        source=source,
        fingerprint=fingerprint(task),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=bilevel.__version__,
        machine=machine(),
        library=_borrowed(workspace, task, settings, stack),
    )
    return replace(run, sandbox=_level(run, settings), allow_weak=settings.allow_weak)


def _check_imports(run: Run) -> None:
    """Raises MissingExtra where a shipped task's script would end at an import."""
    missing = [n for n in IMPORTS.get(run.source, ()) if importlib.util.find_spec(n) is None]
    if missing:
        raise MissingExtra(
            f"task {run.task} needs {' and '.join(missing)}, not installed here; get what it "
            "needs: pip install 'bilevel[gpt]'"
        )


def _check_sizes(settings: Settings, baselines: int, confirms: int) -> None:
    """Raises ConfigError where a number of the settings is below the least that makes sense."""
    for label, value, least in (
        ("evals", settings.evals, 0),
        ("slots", settings.slots, 1),
        ("baselines", baselines, 2),
        ("confirms", confirms, 0),
        ("every", settings.outer.every, 1),
        ("cycles", settings.outer.cycles, 1),
        ("layers", settings.outer.layers, 1),
        ("candidates", settings.outer.candidates, 1),
        ("repairs", settings.outer.repairs, 0),
    ):
        if value < least:
            raise ConfigError(f"{label} is {value} but must be at least {least}")


def _states(workspace: Workspace, task: Task, settings: Settings) -> dict[str, str]:
    """By sha, the states in which mechanisms begin: those given, else those remembered."""
    known = remembered(workspace.store, task.name, settings.stack) if settings.remember else {}
    return known | {stacks.source(name).sha: state for name, state in settings.states.items()}


def _hypotheses(task: Task, settings: Settings) -> bool:
    """Whether proposals say why. Raises ConfigError where only that tells what was changed."""
    texts = [p.name for p in task.space if p.kind == "text"]
    if texts and not settings.hypotheses:
        raise ConfigError(
            f"hypotheses are off, but {texts[0]} is a text, and it is its hypotheses that say what "
            "was changed in it; leave out --no-hypotheses, or in a study hypotheses = false"
        )
    return settings.hypotheses


def _borrowed(
    workspace: Workspace, task: Task, settings: Settings, stack: Sequence[str]
) -> tuple[Borrowed, ...]:
    """What the run is given. Raises ConfigError where one that joins is on the stack already."""
    found = settings.loan
    if settings.library and not found:
        known = workspace.library.entries()
        found = borrow(known, settings.library, task.name, task.space, settings.seed)
    for entry in stack:
        name, _, sha = entry.rpartition("@")
        if any(b.joins and b.source.sha == sha for b in found):
            raise ConfigError(
                f"a stack holds each mechanism once, and the library gives this run the text of "
                f"{name} too; leave {name} out of the stack, or the library"
            )
    return found


def _outer_model(settings: Settings) -> str:
    """The model of the outer levels, "" for the same. Raises ConfigError where none takes part."""
    outer = settings.outer
    if settings.llm_outer and not outer.steering and outer.research == "off":
        raise ConfigError(
            f"the outer levels' model is {settings.llm_outer}, but neither Level 1.5 nor Level 2 "
            "takes part; leave it out, or let one of them"
        )
    return "" if settings.llm_outer == settings.llm else settings.llm_outer


def answers_here(model: str) -> bool:
    """Whether a model computes on this machine's cores, or is a person: one request at a time."""
    at = model.find("@http")
    if at > 0:
        return urlsplit(model[at + 1 :]).hostname in LOOPBACK
    return kind_of(model) in LOCAL


def answers_elsewhere(model: str) -> bool:
    """Whether a model is known to compute on another machine, or is an agent of its own."""
    known = model.find("@http") > 0 or kind_of(model) in {*PROVIDERS, *(kind_of(n) for n in NAMES)}
    return known and not answers_here(model)


def is_small(model: str) -> bool:
    """Whether a model is the embedded one, or its name gives it fewer than SMALL parameters.

    A name that gives no size is not of a small one; of several sizes the largest counts.
    """
    name = re.split(r"@http|\?", model)[0]
    sizes = [float(n) * UNITS[unit.lower()] for n, unit in SIZE.findall(name)]
    return kind_of(model) == "embedded" or (bool(sizes) and max(sizes) < SMALL)


def with_sessions(plan: OuterPlan, sessions: str, llm: str, outer: str) -> OuterPlan:
    """The plan with its sessions `beside` the inner loop, or in `turns` with it; `auto` decides.

    auto: beside where the model of Level 2 takes none of the evaluations' cores. Raises ConfigError
    for sessions beside of a Level 2 that takes no part.
    """
    if plan.research == "off" and sessions == "beside":
        raise ConfigError(
            "--sessions beside says how Level 2 holds its sessions, which takes no part; "
            "give --levels 1,2 or 1,1.5,2"
        )
    free = plan.research != "off" and answers_elsewhere(outer or members(llm)[0])
    return replace(plan, beside=free if sessions == "auto" else sessions == "beside")


def with_writes(plan: OuterPlan, writes: str, llm: str, outer: str) -> OuterPlan:
    """The plan with what Level 2 writes, `frames` or `classes`; `auto` decides.

    auto: frames with a small model, classes with all others. Raises ConfigError for what a Level 2
    is to write that takes no part.
    """
    if plan.research == "off":
        if writes != "auto":
            raise ConfigError(
                f"--writes {writes} says what Level 2 writes, which takes no part; "
                "give --levels 1,2 or 1,1.5,2"
            )
        return plan
    small = is_small(outer or members(llm)[0])
    told = ("frames" if small else "classes") if writes == "auto" else writes
    return replace(plan, writes="classes" if told == "classes" else "frames")


def _screened(plan: OuterPlan) -> OuterPlan:
    """The plan without screening where its library is missing; whoever introduces a run says so."""
    return plan if can_screen() else replace(plan, screening=False)


def can_screen() -> bool:
    """Whether the library that screening needs is installed."""
    return importlib.util.find_spec("sklearn") is not None


def _level(run: Run, settings: Settings) -> str:
    """How well a sandbox holds code on this machine, "" where the run needs none."""
    return held(settings.allow_weak, settings.sandbox) if needs_sandbox(run) else ""
