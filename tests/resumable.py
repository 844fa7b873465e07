"""A run in a process of its own, to be killed: `python resumable.py HOME [RUN]`.

Real store, executor, jobs and loop; only the LLM is scripted, as its name says.
"""

import sys
from pathlib import Path

from bilevel.assemble import conduct
from bilevel.model import Phase, Record
from bilevel.planning import Settings, begin
from bilevel.workspace import Workspace
from worlds import Scripted, says

SCRIPT = """\
RATE = 0.5  # step size
BATCH = 2**10
SEED = 1
print("---")
print(f"val_loss: {abs(RATE - 0.2) + BATCH / 2**12 + SEED % 7 / 1000:.6f}")
"""
TASK = """\
[task]
name = "tiny"
kind = "script"
goal = "Make the loss small."
metric = "val_loss"
[script]
file = "train.py"
seed = "SEED"
timeout = 120
[params.RATE]
low = 0.01
high = 1.0
log = true
[params.BATCH]
low = 256
high = 4096
log = true
step = 2
"""


def reply(messages: object, number: int) -> str:
    """Depends on the length of the prompt only, so that a resumed run is told the same."""
    length = sum(len(m.content) for m in messages)  # type: ignore[attr-defined]
    return says(RATE=round(0.02 + length % 83 / 100, 2))


class Silent:
    def phase(self, phase: Phase) -> None:
        pass

    def record(self, record: Record) -> None:
        print(type(record).__name__, flush=True)


def main(home: Path, run_id: str | None) -> None:
    task = home / "task.toml"
    if run_id is None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "train.py").write_text(SCRIPT)
        task.write_text(TASK)
    workspace = Workspace(home / "state")
    if run_id is None:
        settings = Settings(evals=5, llm="scripted", confirms=1)
        run = begin(workspace, str(task), settings)
    else:
        run = workspace.store.run(run_id)
    conduct(workspace, run, Scripted(reply), Silent())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
