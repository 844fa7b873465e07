"""The task.toml that `init` writes: it loads, teaches, and is sensible."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lookalike import AUTORESEARCH, SMALL, SMALL_TOML

from bilevel.errors import ConfigError
from bilevel.space import Param
from bilevel.tasks.constants import Source
from bilevel.tasks.init import draft, write
from bilevel.tasks.loading import load_task
from bilevel.tasks.manifest import ParamSpec, TaskManifest, parse
from bilevel.tasks.params import of_script
from bilevel.tasks.script import ScriptTask


def drafted(script: str) -> TaskManifest:
    return parse(draft(Source(script, "train.py")))


def test_an_autoresearch_script() -> None:
    manifest = drafted(AUTORESEARCH)
    assert (manifest.task.metric, manifest.task.direction) == ("val_bpb", "min")
    assert manifest.script is not None
    assert (manifest.script.file, manifest.script.seed) == ("train.py", "SEED")
    parameters = of_script(manifest.params, Source(AUTORESEARCH), "task.toml", "SEED")
    assert parameters.locked == {"ASPECT_RATIO": 64, "HEAD_DIM": 128, "DEPTH": 8}
    space = parameters.space
    batch = space["TOTAL_BATCH_SIZE"]
    assert batch == Param(
        "TOTAL_BATCH_SIZE", "int", 2**19, 2**16, 2**22, True, 2,
        doc="~524K tokens per optimizer step",
    )  # fmt: skip
    assert [p for p in space if p.name == "MATRIX_LR"] == [
        Param("MATRIX_LR", "float", 0.04, 0.004, 0.4, True,
              doc="learning rate for matrix parameters (Muon)")
    ]  # fmt: skip
    bounds = {p.name: p.bounds for p in space if p.kind == "float" and not p.log}
    assert bounds == {
        "WEIGHT_DECAY": (0, 1), "ADAM_BETAS[0]": (0.5, 0.999), "ADAM_BETAS[1]": (0.5, 0.999),
        "WARMUP_RATIO": (0, 1), "FINAL_LR_FRAC": (0, 1),
    }  # fmt: skip
    assert {"L", "SL", "SSSL"} <= set(space["WINDOW_PATTERN"].choices)


def test_the_text_teaches() -> None:
    text = draft(Source(AUTORESEARCH + "A = 2 * DEPTH\nCOEFFS = ((1, 2), (3, 4))\n", "train.py"))
    for line in (
        "[params.TOTAL_BATCH_SIZE]  # 2**19",
        "low = 65536  # 2**16",
        "locked = true  # model size: another size is another problem; unlock it to search sizes "
        "as well",
        'seed = "SEED"  # the constant that takes the run\'s seed',
        "# Found in what train.py prints.",
        "#   A is computed, not a literal; only literal values can be edited",
        "#   COEFFS is a table of numbers",
    ):
        assert line in text.split("\n")


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        ("LR = 0.0", ParamSpec(low=0, high=1)),
        ("LR = 3e-4", ParamSpec(low=3e-5, high=3e-3, log=True)),
        ("LEARNING_RATE = 2.0", ParamSpec(low=0.2, high=20, log=True)),
        ("DROPOUT = 0.1", ParamSpec(low=0, high=1)),
        ("WEIGHT_DECAY = 0.0", ParamSpec(low=0, high=0.5)),
        ("BETA2 = 0.95", ParamSpec(low=0.5, high=0.999)),
        ("EPS = 1e-8", ParamSpec(low=1e-9, high=1e-7, log=True)),
        ("CAP = 15.0", ParamSpec(low=1.5, high=150, log=True)),
        ("OFFSET = -2.0", ParamSpec(low=-20, high=20)),
        ("BATCH = 32", ParamSpec(low=4, high=256, log=True, step=2)),
        ("BATCH = 3 * 2**17", ParamSpec(low=3 * 2**14, high=3 * 2**20, log=True, step=2)),
        ("BATCH = 100", ParamSpec(low=12, high=800, log=True)),
        ("K = 1", ParamSpec(low=1, high=8, log=True)),
        ("WARMUP = 0", ParamSpec(low=0, high=10)),
        ("USE_BIAS = True", ParamSpec(choices=(False, True))),
        ("PATTERN = 'SL'", ParamSpec(choices=("L", "SL", "SSL", "SSSL", "SSSSL", "SSSSSSSL"))),
        *(
            (f"{name} = {value}", ParamSpec(locked=True))
            for name, value in [
                ("DEPTH", 2), ("N_LAYER", 2), ("NUM_LAYERS", 2), ("N_EMBD", 64), ("D_MODEL", 64),
                ("HIDDEN_DIM", 64), ("VOCAB_SIZE", 256), ("WIDTH", 64), ("N_HEADS", 4),
                ("TIME_BUDGET", 300), ("MAX_STEPS", 100), ("EPOCHS", 3), ("MAX_SEQ_LEN", 2048),
                ("EVAL_TOKENS", 4096), ("EVAL_EVERY", 10), ("DATA_SEED", 3), ("LOG_EVERY", 10),
                ("H100_BF16_PEAK_FLOPS", 989.5e12), ("DATA_DIR", "'x'"), ("OPTIMIZER", "'adam'"),
                ("LIMIT", -1), ("TINY", 1e-300),
            ]
        ),
    ],
)  # fmt: skip
def test_a_suggestion(constant: str, expected: ParamSpec) -> None:
    script = f"SEED = 1\nOTHER = 0.5\n{constant}\n"
    name = constant.partition(" ")[0]
    assert drafted(script).params[name] == expected


@pytest.mark.parametrize(
    ("code", "metric", "direction"),
    [
        ('print(f"val_loss: {x:.4f}")', "val_loss", "min"),
        ('print(f"METRIC acc={x}")', "acc", "max"),
        ('print("test_accuracy:", x)', "test_accuracy", "max"),
        ('print("val_loss: %.4f" % x)', "val_loss", "min"),
        ('print("val_loss = {:.4f}".format(x))', "val_loss", "min"),
        ('logging.info(f"steps: 3\\nval/f1: {x}\\n")', "val/f1", "max"),
        ('print(f"train_loss: {x}")\nprint(f"val_loss: {x}")', "val_loss", "min"),
        ('print(f"\\rval_acc: {x}", end="")\nprint(f"mse: {x}")', "mse", "min"),
        ('for k, v in {"val_bpb": x}.items(): print(f"{k}: {v}")', "val_bpb", "min"),
        ('print(f"step {i}: {x}")', "val_loss", "min"),
        ("pass", "val_loss", "min"),
    ],
)
def test_the_metric_is_found_in_what_is_printed(code: str, metric: str, direction: str) -> None:
    task = drafted(f"LR = 0.1\n{code}\n").task
    assert (task.metric, task.direction) == (metric, direction)


def test_doubt_about_the_metric_is_said() -> None:
    assert "seems to print no line" in draft(Source("LR = 0.1\n", "train.py"))
    two = 'LR = 0.1\nprint(f"val_loss: {x}\\nval_acc: {y}")\n'
    assert "# train.py also prints val_acc; set the one that matters." in draft(
        Source(two, "train.py")
    )


@pytest.mark.parametrize("script", ["", "x = 1\n", "DEPTH = 3\nSEED = 1\n"])
def test_nothing_to_search_is_said(script: str) -> None:
    with pytest.raises(ConfigError, match="no upper-case constant to search"):
        draft(Source(script))


def test_a_file_is_never_overwritten_by_accident(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SMALL)
    path = write(tmp_path / "train.py")
    assert path == tmp_path / "task.toml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        write(tmp_path / "train.py")
    assert path.read_text() == "mine"
    write(tmp_path / "train.py", force=True)
    assert "LR" in load_task(path).space.names


def test_a_bare_script_is_the_task_that_init_would_write(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(AUTORESEARCH)
    bare = load_task(tmp_path / "train.py")
    write(tmp_path / "train.py")
    written = load_task(tmp_path)
    assert (bare.space, bare.objective, bare.brief()) == (
        written.space, written.objective, written.brief(),
    )  # fmt: skip


def test_the_manifest_beside_a_script_is_used(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SMALL)
    (tmp_path / "other.py").write_text(SMALL)
    (tmp_path / "task.toml").write_text(SMALL_TOML)
    assert load_task(tmp_path / "train.py").name == "small"
    assert load_task(tmp_path / "other.py").name == "other"


@pytest.mark.parametrize("name", ["nothing.toml", "nothing.py", "task.json", "."])
def test_a_path_that_is_no_task(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"does not exist|is no task"):
        load_task(tmp_path / name)


NAMES = st.sampled_from(
    ["LR", "A", "BETAS", "WEIGHT_DECAY", "DROPOUT", "BATCH_SIZE", "EPS", "P", "FINAL_LR_FRAC"]
)
LITERALS = st.one_of(
    st.integers(-10, 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 1).map(repr),
    st.text(max_size=9).map(ascii),
    st.booleans().map(str),
    st.integers(0, 250).map(lambda n: f"2**{n}"),
    st.tuples(st.floats(0, 1), st.integers(0, 9)).map(repr),
)


@settings(max_examples=200, database=None)
@given(st.dictionaries(NAMES, LITERALS, min_size=1), st.text(max_size=20))
def test_every_draft_loads_again(constants: dict[str, str], comment: str) -> None:
    comment = "".join(c for c in comment if c.isprintable())
    lines = [f"{name} = {value}  # {comment}" for name, value in constants.items()]
    script = "ZETA = 0.5\n" + "\n".join(lines)
    source = Source(script, "train.py")
    task = parse(draft(source))
    found = of_script(task.params, source, "task.toml")
    assert found.space.check(found.space.defaults()) == found.space.defaults()


def test_the_class_is_what_the_command_line_patches(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SMALL)
    assert isinstance(load_task(tmp_path / "train.py"), ScriptTask)
