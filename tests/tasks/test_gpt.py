"""The GPT task: the same digits twice, failures that say why, and both sizes' code paths."""

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bilevel
from bilevel.tasks.constants import Source
from bilevel.tasks.loading import load_task
from bilevel.tasks.metrics import scan
from bilevel.tasks.script import ScriptTask, read_source
from patience import PATIENCE

torch: Any = pytest.importorskip("torch", reason="the gpt extra is not installed")

FOLDER = Path(bilevel.__file__).parent / "tasks" / "gpt"
SUMMARY = [
    "val_bpb", "training_seconds", "total_seconds", "cpu_seconds", "peak_vram_mb",
    "total_tokens_M", "num_steps", "num_params_M", "depth", "profile", "corpus_sha",
]  # fmt: skip


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    """train.py, imported; what it puts into the environment is taken out again."""
    before, threads = dict(os.environ), torch.get_num_threads()
    spec = importlib.util.spec_from_file_location("gpt_train", FOLDER / "train.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["gpt_train"] = loaded
    spec.loader.exec_module(loaded)
    yield loaded
    del sys.modules["gpt_train"]
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def train(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same, with its own constants again after each test and a budget of two or three steps."""
    monkeypatch.setenv("BILEVEL_GPT_SECONDS", "14")
    defaults = {name: getattr(module, name) for name in module.CONSTANTS}
    yield module
    module.configure(defaults)


def command(folder: Path, file: str, **env: str) -> tuple[int, str, str]:
    """Exit status, stdout with its carriage returns, and stderr."""
    done = subprocess.run(
        [sys.executable, file], cwd=folder, env={**os.environ, **env}, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_command_prints_the_summary_and_the_digits_of_the_imported_script(train: Any) -> None:
    status, out, errors = command(FOLDER, "train.py", BILEVEL_GPT_SECONDS="14", OMP_NUM_THREADS="2")
    assert status == 0, errors
    head, _, summary = out.partition("\n---\n")
    lines = dict(line.split(":", 1) for line in summary.splitlines())
    assert list(lines) == SUMMARY
    assert head.startswith("\rstep 1 (")
    assert lines["corpus_sha"].strip().startswith("sha256:")
    first, again = train.main(), train.main()
    assert first["val_bpb"] == again["val_bpb"]
    assert lines["val_bpb"].strip() == f"{first['val_bpb']:.6f}"
    read = scan(out, "val_bpb")
    assert read.value == float(lines["val_bpb"])
    assert "corpus_sha" not in read.metrics


def test_seed_and_constants_change_the_result(train: Any) -> None:
    first = train.main()
    train.configure({"SEED": 1})
    other = train.main()
    assert first["val_bpb"] != other["val_bpb"]
    assert first["num_steps"] == other["num_steps"]
    train.configure({"TOTAL_BATCH_SIZE": 2**12})
    assert train.main()["num_steps"] > other["num_steps"]
    with pytest.raises(KeyError, match="BATCH is no constant"):
        train.configure({"BATCH": 1})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"TOTAL_BATCH_SIZE": 512}, AssertionError, "must be a multiple of .* = 1024"),
        ({"DEVICE_BATCH_SIZE": 12}, AssertionError, "TOTAL_BATCH_SIZE is 8192 but"),
        ({"DEVICE_BATCH_SIZE": 0}, AssertionError, "DEVICE_BATCH_SIZE is 0"),
        ({"DEVICE_BATCH_SIZE": 128}, MemoryError, "out of memory: .* lower DEVICE_BATCH_SIZE"),
        ({"DEPTH": 0}, AssertionError, "DEPTH is 0"),
        ({"HEAD_DIM": 15}, AssertionError, "must be even"),
        ({"WINDOW_PATTERN": "SX"}, AssertionError, "only S and L"),
        ({"ADAM_BETAS": (0.8, 1.0)}, AssertionError, "each must be in"),
    ],
)
def test_what_cannot_be_trained_says_why(
    train: Any, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    train.configure(changes)
    with pytest.raises(error, match=message):
        train.main()


def test_exploding_loss_prints_fail_and_exits_with_1(tmp_path: Path) -> None:
    script = read_source(FOLDER / "train.py").edit({"MATRIX_LR": 1e30})
    (tmp_path / "train.py").write_text(script)
    status, out, errors = command(tmp_path, "train.py")
    assert status == 1
    assert out.endswith("\nFAIL\n")
    assert "---" not in out
    assert "lower the learning rates" in errors


def test_evaluation_does_not_depend_on_the_device_batch_size(train: Any) -> None:
    p = train.profile()
    data = train.Data(train.corpus(p.modules), p)
    scores = set()
    for size in (1, 64):
        train.configure({"DEVICE_BATCH_SIZE": size})
        model = train.build(p, data.vocab)
        model.initialise("cpu", torch.Generator().manual_seed(3))
        scores.add(
            train.bits_per_byte(lambda x, y, m=model: m(x, y, torch.float32), data, p),
        )
    assert len(scores) == 1
    assert scores.pop() == pytest.approx(math.log2(data.vocab), rel=1e-2)


def test_held_out_rows_are_no_training_rows(train: Any) -> None:
    p = train.profile()
    text = b"".join(b"%07d\n" % i for i in range(100_000))
    data = train.Data(text, p)
    assert data.vocab == 11

    def rows(tokens: Any) -> set[bytes]:
        return {row.numpy().tobytes() for row in tokens}

    assert len(data.val) == (2 * 2**14 - 1) // p.seq_len
    assert not rows(data.val) & rows(data.train)
    batches = data.batches(len(data.train), torch.Generator().manual_seed(0))
    assert rows(next(batches)) == rows(data.train)
    with pytest.raises(ValueError, match="too short"):
        train.Data(b"short", p)


def test_learning_rates_follow_the_budget(train: Any) -> None:
    train.configure({"WARMUP_RATIO": 0.2, "WARMDOWN_RATIO": 0.5, "FINAL_LR_FRAC": 0.1})
    shares = [train.lr_scale(x) for x in (0.0, 0.1, 0.2, 0.5, 0.75, 1.0)]
    assert shares == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.55, 0.1])
    train.configure({"WARMUP_RATIO": 0.0, "WARMDOWN_RATIO": 0.0})
    assert {train.lr_scale(x) for x in (0.0, 0.5, 1.0)} == {1.0}


def test_orthogonalised_matrices_have_singular_values_near_one(train: Any) -> None:
    for shape in ((2, 32, 32), (128, 32), (32, 128)):
        g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        values = torch.linalg.svdvals(train.orthogonalise(g))
        assert values.max() < 1.25
        assert values.median() > 0.8


def test_task_files_open_the_search_and_lock_the_size() -> None:
    small, full = load_task(FOLDER / "task.toml"), load_task(FOLDER / "task_cuda.toml")
    assert isinstance(small, ScriptTask)
    assert isinstance(full, ScriptTask)
    assert small.space.names == full.space.names
    assert (small.deterministic, full.deterministic) == (True, False)
    assert set(small.locked) == set(full.locked) == {"ASPECT_RATIO", "HEAD_DIM", "DEPTH"}
    job = small.job(small.space.defaults(), seed=7)
    assert Source(job.files["train.py"])["SEED"].value == 7
    grid = small.space["TOTAL_BATCH_SIZE"].grid()
    assert grid == tuple(2**k for k in range(10, 17))


def test_full_size_has_the_constants_of_the_script(train: Any) -> None:
    full = read_source(FOLDER / "train_cuda.py")
    named = {constant.name.partition("[")[0]: constant.value for constant in full.constants}
    assert set(named) == train.CONSTANTS
    train.configure({name: named[name] for name in ("DEPTH", "ASPECT_RATIO", "HEAD_DIM")})
    with torch.device("meta"):
        model = train.GPT(256, 2048)
    assert (model.dim, model.heads) == (512, 4)
    assert model.windows == [1024, 1024, 1024, 2048] * 2
    assert sum(w.numel() for w in model.parameters()) == pytest.approx(26e6, rel=0.05)


def test_full_size_code_runs_without_a_gpu(tmp_path: Path) -> None:
    small = {
        "DEPTH": 2, "ASPECT_RATIO": 8, "HEAD_DIM": 16, "TOTAL_BATCH_SIZE": 2048,
        "DEVICE_BATCH_SIZE": 1,
    }  # fmt: skip
    script = read_source(FOLDER / "train_cuda.py").edit(small)
    (tmp_path / "train_cuda.py").write_text(script)
    (tmp_path / "train.py").write_bytes((FOLDER / "train.py").read_bytes())
    (tmp_path / "text").write_bytes(b"".join(b"%d bottles of beer\n" % i for i in range(20_000)))
    env = {"BILEVEL_GPT_TEXT": "text", "BILEVEL_GPT_SECONDS": "0.5", "BILEVEL_GPT_COMPILE": "0"}
    status, out, errors = command(tmp_path, "train_cuda.py", BILEVEL_GPT_DEVICE="cpu", **env)
    assert status == 0, errors
    metrics = scan(out, "val_bpb").metrics
    assert metrics["num_steps"] > 10
    assert metrics["training_seconds"] >= 0.5
    assert 0 < metrics["val_bpb"] < 5
    if not torch.cuda.is_available():
        status, _, errors = command(tmp_path, "train_cuda.py", **env)
        assert status == 1
        assert "finds no GPU" in errors
