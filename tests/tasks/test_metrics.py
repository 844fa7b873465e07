"""Metrics come from whole lines only, quickly, whatever the text."""

import math
import time

import pytest

from bilevel.errors import ConfigError
from bilevel.tasks.metrics import compile_pattern, scan

KARPATHY = (
    "\rstep 00952 (99.9%) | loss: 2.9 | remaining: 0s    \n---\n"
    "val_bpb:          0.997900\ntraining_seconds: 300.1\npeak_vram_mb:     45060.2\n"
    "mfu_percent:      39.80\nnum_steps:        953\ndepth:            8\n"
)


def test_the_summary_of_an_autoresearch_script() -> None:
    assert scan(KARPATHY, "val_bpb").metrics == {
        "val_bpb": 0.9979, "training_seconds": 300.1, "peak_vram_mb": 45060.2,
        "mfu_percent": 39.8, "num_steps": 953, "depth": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("v: 1.5", 1.5),
        ("v = 1.5\n", 1.5),
        ("v=-1.5e-3\r\n", -0.0015),
        ("METRIC v=.5", 0.5),
        ("METRIC v: 3.", 3.0),
        ("  v : +2  ", 2.0),
        ("v: 39.8%", 39.8),
        ("\x1b[1;32mv: 1.5\x1b[0m", 1.5),
        ("\x1b[?25hv: 1.5", 1.5),
        ("v: 1\nv: 2", 2.0),
        ("---\nv: 1\n---\nw: 2\n", 1.0),
        ("---\nv: 1\n---\nv: 2\n", 2.0),
        ("---\nv: 1\ntext\n", 1.0),
        ("---\nMETRIC v=2\nv: 3", 3.0),
        ("METRIC v=2\nv: 3", 2.0),
        ("v: 5\n---\nw: 2", 5.0),
        ("progress\rmore---\nv: 2\n", 2.0),
        ("\rv: 0.1 ---\nv: 2\n", 2.0),
        ("\rstep v: 0.1\nv: 2", 2.0),
        ("v: 2\n\rstep v: 0.1", 2.0),
        ("", None),
        ("\rv: 0.1\n", None),
        ("v: 0.1\rdone\n", None),
        ("step 1\rv: 0.1\r\n", None),
        ("\x1b[2Kv: 0.1\n", None),
        ("\x1b[1Av: 0.1\n", None),
        ("\x1b]0;title\x07v: 0.1\n", None),
        ("step v: 0.1", None),
        ("v: 0.1 | lr: 3", None),
        ("v: 1.5.2", None),
        ("v: 1,5", None),
        ("v: 0x10", None),
        ("v: ٣", None),
        ("v 0.1", None),
        ("V: 0.1", None),
        ("xv: 0.1", None),
        ("x\bv: 0.1", None),
        ("metric v=1", None),
    ],
)
def test_what_is_a_metric(text: str, value: float | None) -> None:
    assert scan(text, "v").value == value


def test_nan_is_read_but_kept_out_of_the_metrics() -> None:
    reading = scan("---\nv: nan\nw: -inf\nx: 1e999\ny: 1\n", "v")
    assert reading.value is not None
    assert math.isnan(reading.value)
    assert reading.metrics == {"y": 1}


def test_a_metric_in_a_progress_line_is_noticed() -> None:
    assert scan("\rstep 1 v: 0.1\rstep 2", "v").hidden
    assert not scan("\rstep 1 w: 0.1\nv: 3", "v").hidden


def test_a_pattern_with_one_group() -> None:
    pattern = compile_pattern(r"^iter \d+: val loss (\S+)", "v")
    reading = scan("iter 1: val loss 3.5\nv: 9\nlr: 2\n\riter 2: val loss 1\n", "v", pattern)
    assert (reading.value, reading.metrics) == (3.5, {"v": 3.5, "lr": 2})
    assert scan("iter 1: val loss x", "v", pattern).unread == "x"


def test_a_pattern_with_named_groups() -> None:
    pattern = compile_pattern(r"loss (?P<v>\S+)(?: acc (?P<acc>\S+))?", "v")
    assert scan("loss 2 acc 0.5\nloss 1", "v", pattern).metrics == {"v": 1, "acc": 0.5}


@pytest.mark.parametrize(
    ("pattern", "why"),
    [("(", "no regular expression"), ("v", "0 groups"), ("(v)(w)", "2 groups"),
     ("(?P<v>x)(y)", "2 groups"), ("(?P<w>x)", "not the metric v")],
)  # fmt: skip
def test_a_bad_pattern_is_a_config_error(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        compile_pattern(pattern, "v")


@pytest.mark.parametrize(
    "piece",
    ["v: 1\n", "1", "v", "v: 1" + "1" * 3000 + "x\n", "\x1b[", "\x1b]", "\x1b[0;", "\r", "METRIC ",
     "METRIC\t", "\n", " ", "v:" + " " * 4000 + "x\n", "-", "\rstep v: 1", "v: 1e", ".1", "a-"],
)  # fmt: skip
def test_a_mebibyte_is_read_quickly(piece: str) -> None:
    text = (piece * (2**20 // len(piece) + 1))[: 2**20]
    began = time.process_time()  # of this process alone: a busy machine is no failure
    scan(text, "v")
    assert time.process_time() - began < 4
