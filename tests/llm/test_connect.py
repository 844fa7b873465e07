import subprocess
import sys
from pathlib import Path

import pytest
from fake_openai import serving

from bilevel.errors import ConfigError, WeightsError
from bilevel.llm.connect import PROVIDERS, connect
from bilevel.model import Message

KEYS = {p.key: "sk-planted" for p in PROVIDERS.values() if p.key}


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("openai/gpt-x", "gpt-x@api.openai.com at its own temperature"),
        ("deepseek/deepseek-chat", "deepseek-chat@api.deepseek.com"),
        ("deepseek", "deepseek-chat@api.deepseek.com"),
        ("openrouter/qwen/qwen-x", "qwen/qwen-x@openrouter.ai"),
        ("ollama/qwen:7b", "qwen:7b@localhost:11434"),
        ("vllm/some/model", "some/model@localhost:8000"),
        ("llamacpp", "default@localhost:8080"),
    ],
)
def test_a_spec_names_a_service(spec: str, name: str) -> None:
    llm = connect(spec, environ=KEYS)
    assert llm.name == name
    llm.close()
    llm.close()


@pytest.mark.parametrize("spec", ["openai/gpt-x", "deepseek", "openrouter/x"])
def test_a_missing_key_is_named_with_the_remedy(spec: str) -> None:
    key = PROVIDERS[spec.partition("/")[0]].key
    with pytest.raises(ConfigError, match=rf"{key} is not set; set it \(export {key}="):
        connect(spec, environ={key: ""})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("deepsek/x", "did you mean deepseek"),
        ("embeded", "did you mean embedded"),
        (
            "gpt-4",
            "give embedded, embedded:MODEL, PROVIDER/MODEL with one of openai, .* or MODEL@URL",
        ),
        ("ollama", "ollama serves many models; say which, as in ollama/MODEL"),
        ("embedded:smolm2-135m", "did you mean smollm2-135m"),
        ("scripted", "there is no LLM"),
    ],
)
def test_an_unknown_spec_names_what_is_known(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        connect(spec, environ=KEYS)


def test_a_path_is_an_embedded_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file"):
        connect(f"embedded:{tmp_path}/mine.gguf")


def test_a_base_url_takes_any_model_and_its_own_key() -> None:
    with serving() as fake:
        llm = connect(
            "my/model", base_url=fake.url, temperature=0.1, environ={"BILEVEL_API_KEY": "sk-mine"}
        )
        llm.complete([Message("user", "hi")], seed=1, max_tokens=5)
        llm.close()
    assert fake.requests[0].body["model"] == "my/model"
    assert fake.requests[0].body["temperature"] == 0.1
    assert fake.requests[0].headers["authorization"] == "Bearer sk-mine"


def test_a_spec_may_carry_the_url() -> None:
    llm = connect("my/model@http://127.0.0.1:9/v1", environ={})
    assert llm.name == "my/model@127.0.0.1:9"
    llm.close()


def test_connect_imports_no_client_before_it_needs_one() -> None:
    code = (
        "import sys, bilevel.llm.connect, bilevel.llm.weights;"
        "sys.exit(bool({'openai', 'xllamacpp', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
