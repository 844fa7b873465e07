"""What a job's end means, in words that help."""

import pytest

from bilevel.model import JobResult, Objective, Outcome
from bilevel.tasks.metrics import compile_pattern
from bilevel.tasks.outcome import MAX_ERROR, read

BPB = Objective("val_bpb")

TRACEBACK = """\
step 1
Traceback (most recent call last):
  File "/tmp/job/train.py", line 496, in <module>
    assert TOTAL_BATCH_SIZE % tokens == 0
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
AssertionError
"""

LIBRARY = """\
Traceback (most recent call last):
  File "/tmp/job/train.py", line 12, in <module>
    model.to("cuda")
  File "/venv/lib/python3.11/site-packages/torch/nn/module.py", line 9, in to
    return self._apply(f)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB
warning: cleaning up
"""


def outcome(output: str, status: int = 0) -> Outcome:
    return read(JobResult(status, output, 12.0), BPB)


def test_a_summary_is_ok() -> None:
    found = outcome("---\nval_bpb: 0.5\nnum_steps: 3\n")
    assert found == Outcome("ok", 0.5, {"val_bpb": 0.5, "num_steps": 3})


def test_a_metric_does_not_excuse_a_failure() -> None:
    assert outcome("---\nval_bpb: 0.5\n", 1).status == "crash"


@pytest.mark.parametrize("figure", ["nan", "inf", "-Infinity", "1e999"])
def test_a_metric_that_is_not_finite_is_a_crash(figure: str) -> None:
    found = outcome(f"---\nval_bpb: {figure}\n")
    assert (found.status, found.value) == ("crash", None)
    assert found.error == f"val_bpb is {float(figure)}"


@pytest.mark.parametrize(
    ("output", "status", "parts"),
    [
        (TRACEBACK, 1, ["exit 1: AssertionError", "train.py line 496: assert TOTAL_BATCH_SIZE %"]),
        (LIBRARY, 1, ["torch.OutOfMemoryError: CUDA out", "train.py line 12: model.to"]),
        ("\rstep 10 | loss: nan | 290s    FAIL\n", 1, ["printed FAIL", "step 10 | loss: nan"]),
        ("loss 3\rloss 101\nFAIL\n", 1, ["printed FAIL", "loss 101"]),
        ("FAIL", 1, ["printed FAIL", "nothing else"]),
        ("a\nusage: train.py\nbad option\n", 2, ["exit 2:", "usage: train.py\nbad option"]),
        ("", 3, ["exit 3: it printed nothing"]),
        ("x", -9, ["killed by SIGKILL, often for using too much memory"]),
        ("x", 139, ["killed by SIGSEGV"]),
        ("ok\n", 0, ["printed no line `val_bpb: NUMBER`", "metric"]),
        ("\rval_bpb: 0.1", 0, ["progress lines only", "line of its own"]),
    ],
)
def test_a_crash_says_why(output: str, status: int, parts: list[str]) -> None:
    found = outcome(output, status)
    assert (found.status, found.value, found.metrics) == ("crash", None, {})
    for part in parts:
        assert part in found.error


@pytest.mark.parametrize(
    ("killed", "status", "part"),
    [("timeout", "timeout", "12 s"), ("output", "crash", "max_output_mb"),
     ("stopped", "crash", "stopped")],
)  # fmt: skip
def test_a_killed_job_is_no_success(killed: str, status: str, part: str) -> None:
    result = JobResult(0, "val_bpb: 0.1\n", 12.0, killed)  # type: ignore[arg-type]
    found = read(result, BPB)
    assert (found.status, found.value) == (status, None)
    assert part in found.error


def test_errors_are_short_and_printable() -> None:
    noise = "".join(map(chr, range(0x100))) + "\u202e\x1b[31m\u2028"
    found = outcome(f"{noise * 50}\n" * 50, 1)
    assert len(found.error) <= MAX_ERROR
    assert all(c.isprintable() or c == "\n" for c in found.error)


def test_the_log_that_a_script_writes_itself_is_read() -> None:
    files = {"run.log": "---\nval_bpb: 0.7\n"}
    assert read(JobResult(0, "done\n", 1.0, files=files), BPB).value == 0.7
    assert read(JobResult(0, "val_bpb: 0.6\n", 1.0, files=files), BPB).value == 0.6
    failed = read(JobResult(1, "\n", 1.0, files={"run.log": TRACEBACK}), BPB)
    assert "AssertionError" in failed.error


def test_the_first_line_of_a_cut_output_does_not_count() -> None:
    rest = "\n" + "x" * 2**20
    assert outcome("val_bpb: 0.1" + rest[: 2**20 - 12]).status == "crash"
    assert outcome("val_bpb: 0.1" + rest[:1000]).value == 0.1


def test_a_pattern_is_named_when_nothing_matches() -> None:
    pattern = compile_pattern("loss (.*)", "val_bpb")
    result = JobResult(0, "loss abc\n", 1.0)
    assert "captured 'abc', which is no number" in read(result, BPB, pattern).error
    assert "'loss (.*)'" in read(JobResult(0, "x", 1.0), BPB, pattern).error
