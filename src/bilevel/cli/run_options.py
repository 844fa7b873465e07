"""What can be set when a run begins: options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bilevel.errors import ConfigError

OUTER = "Outer loop"
TAPE = "Tape"

Task = Annotated[
    str,
    typer.Argument(
        help="A task.toml, its folder, a script, or a shipped task: gpt, gpt-cuda, heilbronn, "
        "heilbronn-mirrored, heilbronn-square, min-max-distance, packing-or, packing-weibull, "
        "paper-mock, or bbob-fF-dD (function 1 to 24, dimension 2 to 40)."
    ),
]
Stack = Annotated[
    str,
    typer.Option(
        help="Search mechanisms over the loop from the start, lowest first: names that "
        "`mechanisms list` shows, or your own .py files, which run in the sandbox. "
        "As tabu,mine.py."
    ),
]
Llm = Annotated[
    str,
    typer.Option(
        help="embedded, embedded:NAME, provider/model (openai, anthropic, deepseek, gemini, "
        "openrouter, ollama, lmstudio, vllm, llamacpp), or model@URL of any OpenAI-compatible "
        "server; with options, as ?rpm=60&timeout=300. Keys come from the environment or the "
        "keyring. "
        "none: for a stack that gives all values itself, as tpe. Or an agent or a person: "
        'claude-code, codex (both also with /MODEL), command:"PROGRAM ARGS" (prompt on stdin, '
        "answer on stdout; it runs in an empty folder: give whole paths), terminal, or "
        "mailbox:FOLDER: each request is a file "
        "NNNN.request.md and .json there; write the answer beside it, then rename it to "
        "NNNN.answer.txt, and NNNN.reply.json says whether it fits. Or ensemble:A,B: of these "
        "models the one is asked for a proposal whose gain per cost is best."
    ),
]
LlmOuter = Annotated[
    str | None,
    typer.Option(
        help="Another model for Levels 1.5 and 2, named as for --llm.", rich_help_panel=OUTER
    ),
]
Library = Annotated[
    str | None,
    typer.Option(
        help="Begin with a mechanism that earlier runs admitted: best (for this task or the most "
        "like one), alma (sampled, the often used less), random; best:2 for two. Level 2 sees the "
        "library's record of this task. See `bilevel library`.",
        rich_help_panel=OUTER,
    ),
]
Levels = Annotated[
    str | None,
    typer.Option(
        help="Who takes part: 1 proposes and evaluates; 1.5 steers: freezes parameters, sets a "
        "strategy, advises; 2 writes new search mechanisms as code, while the run goes. "
        "1 | 1,1.5 | 1,2 | 1,1.5,2; all three if left out, with --llm none 1.",
        rich_help_panel=OUTER,
    ),
]
Sham = Annotated[
    bool,
    typer.Option(
        "--sham",
        help="A control: Level 2 talks and is paid for, and its code is left out.",
        rich_help_panel=OUTER,
    ),
]
Sessions = Annotated[
    Literal["auto", "beside", "turns"],
    typer.Option(
        help="Whether Level 2 holds its sessions beside the inner loop, which goes on meanwhile, "
        "or in turns with it. auto: beside, but in turns where its LLM runs on this machine, on "
        "the cores of the evaluations, or is a person.",
        rich_help_panel=OUTER,
    ),
]
Writes = Annotated[
    Literal["auto", "frames", "classes"],
    typer.Option(
        help="What Level 2 writes. frames: it chooses a rule from lists and writes the expressions "
        "in it, which a small model manages. classes: any rule, as a whole class, until a session "
        "ends with none; from then on frames. auto: frames with the embedded LLM and one whose "
        "name says less than 4b (ollama/NAME:1.5b), else classes.",
        rich_help_panel=OUTER,
    ),
]
Every = Annotated[
    int,
    typer.Option(help="Evaluations between two steerings (a cycle).", rich_help_panel=OUTER),
]
Cycles = Annotated[
    int, typer.Option(help="Cycles from one session of Level 2 to the next.", rich_help_panel=OUTER)
]
Layers = Annotated[
    int,
    typer.Option(
        help="Mechanisms of Level 2 that may be at work at a time; the one with least credit "
        "makes room.",
        rich_help_panel=OUTER,
    ),
]
Candidates = Annotated[
    int,
    typer.Option(
        help="Sources that a session asks for until one is admitted.", rich_help_panel=OUTER
    ),
]
Repairs = Annotated[
    int,
    typer.Option(
        help="Times that a refused source goes back to its author with the reason.",
        rich_help_panel=OUTER,
    ),
]
Domains = Annotated[
    Literal["hint", "none"],
    typer.Option(
        help="Whether Level 2 is told of fields to borrow from, or must think of them itself.",
        rich_help_panel=OUTER,
    ),
]
NoScreening = Annotated[
    bool,
    typer.Option(
        "--no-screening",
        help="Leave out the gate's last part: whether a source does harm on a surrogate.",
        rich_help_panel=OUTER,
    ),
]
Hypotheses = Annotated[
    bool,
    typer.Option(
        help="Whether each proposal says why it should help, after what it changes: for the "
        "reader, and where a reply is refused for the repair. Without, a model writes half as much."
    ),
]
Replay = Annotated[
    str | None,
    typer.Option(
        help="A recorded run, or its file, from whose tape the LLM's replies come; no model is "
        "asked, and a request that it does not hold ends the run and says how it differs. "
        "Experiments are run. Give the task and the settings of that run; the LLM is its own.",
        rich_help_panel=TAPE,
    ),
]
Mixed = Annotated[
    bool,
    typer.Option(
        "--mixed",
        help="With --replay: ask the LLM for what the tape does not hold.",
        rich_help_panel=TAPE,
    ),
]


def stack_of(text: str, llm: str) -> tuple[str, ...]:
    """The names of a comma list. Raises ConfigError where neither they nor an LLM can propose."""
    from bilevel.levels import NO_LLM

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if llm == NO_LLM and not names:
        raise ConfigError(
            "--llm none leaves nobody to propose; give --stack a mechanism that does, such as tpe "
            "or random_search"
        )
    return names
