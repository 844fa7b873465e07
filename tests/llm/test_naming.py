"""What names a model holds no secret, as runs keep it and publish it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_openai import completion, serving
from typer.testing import CliRunner

from bilevel.cli.cli import app
from bilevel.errors import ConfigError
from bilevel.llm.connect import connect
from bilevel.llm.naming import check_spec
from bilevel.model import Message
from bilevel.planning import Settings, planned
from bilevel.study.file import parse
from bilevel.tape.taped import check_models
from bilevel.workspace import Workspace
from comparable import write_task
from worlds import RUN

SECRET = "hunter2hunter2"
SPECS = (
    f"m@https://u:{SECRET}@host/v1",
    f"m@https://{SECRET}@host/v1?rpm=60",
    f"m@https://u:a/b?c#{SECRET}@host/v1",
    f"https://u:{SECRET}@host/v1",
    f"ensemble:embedded,m@http://u:{SECRET}@host/v1",
    f"command:ask --server http://u:{SECRET}@host",
)


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_with_a_password_is_refused_and_not_repeated(tmp_path: Path, spec: str) -> None:
    for settings in (Settings(llm=spec), Settings(llm="none", llm_outer=spec)):
        with pytest.raises(ConfigError, match="keyring set bilevel BILEVEL_API_KEY") as caught:
            planned(Workspace(tmp_path), "paper-mock", settings)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    ["m@https://host/v1", "@cf/meta/llama@https://host/v1", "embedded", "openai/gpt-x?rpm=60",
     "command:ask --server http://host --for me@home"],
)  # fmt: skip
def test_a_spec_without_one_is_none_the_worse_for_it(spec: str) -> None:
    check_spec(spec)


@pytest.mark.parametrize(
    "words",
    [("run", "task.toml"), ("estimate", "task.toml"),
     ("compare", "task.toml", "--strategies", "random", "--out", "shared")],
)  # fmt: skip
def test_a_password_reaches_neither_store_nor_files_nor_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    result = CliRunner().invoke(app, [*words, "--llm", SPECS[0]])
    assert isinstance(result.exception, ConfigError)
    assert SECRET not in result.output + str(result.exception)
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert all(SECRET.encode() not in p.read_bytes() for p in written)


def test_a_study_with_a_password_is_refused(tmp_path: Path) -> None:
    study = '[study]\nname = "s"\ntasks = ["paper-mock"]\nrepeats = 2\nevals = 4\narms = ["tpe"]\n'
    study += f'llm = "{SPECS[0]}"\n'
    with pytest.raises(ConfigError, match="holds a user or a password") as caught:
        parse(study, tmp_path / "study.toml")
    assert SECRET not in str(caught.value)


def test_no_error_about_a_spec_repeats_its_secret() -> None:
    with pytest.raises(ConfigError) as tape:
        check_models(SPECS[0], "", RUN)
    with pytest.raises(ConfigError, match="there is no such option") as option:
        connect(f"m@https://host/v1?key={SECRET}")
    with pytest.raises(ConfigError, match="host needs a key") as url:
        connect("openai/m", environ={"OPENAI_BASE_URL": f"https://u:{SECRET}@host/v1"})
    assert not any(SECRET in str(e.value) for e in (tape, option, url))


def test_a_url_of_the_environment_may_hold_a_user() -> None:
    with serving() as fake:
        fake.answers = [completion("hello")]
        url = fake.url.replace("http://", "http://u:pass@")
        llm = connect("vllm/m", environ={"VLLM_BASE_URL": url})
        assert llm.complete([Message("user", "hi")], seed=1, max_tokens=5).text == "hello"
        assert fake.requests[0].headers["authorization"] == "Basic dTpwYXNz"
        assert llm.name.startswith("m@127.0.0.1:")
        llm.close()
