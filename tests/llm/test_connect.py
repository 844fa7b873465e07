import subprocess
import sys
from pathlib import Path

import pytest
from adapters import SCHEMA, needs_anthropic
from fake_openai import Answer, Request, completion, message, refusal, serving

from bilevel.errors import ConfigError, MissingExtra, WeightsError
from bilevel.llm.connect import connect
from bilevel.llm.gbnf import gbnf
from bilevel.llm.providers import PROVIDERS
from bilevel.llm.remote import UNHEEDED
from bilevel.model import Message
from bilevel.protocols import LLM

KEYS = {name: "sk-planted" for p in PROVIDERS.values() for name in p.keys}
ASK = [Message("user", "hi")]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("openai/gpt-x", "gpt-x@api.openai.com at its own temperature"),
        pytest.param(
            "anthropic/claude-x",
            "claude-x@api.anthropic.com at its own temperature",
            marks=needs_anthropic,
        ),
        ("deepseek/deepseek-chat", "deepseek-chat@api.deepseek.com"),
        ("deepseek", "deepseek-chat@api.deepseek.com"),
        ("gemini/gemini-x", "gemini-x@generativelanguage.googleapis.com"),
        ("openrouter/qwen/qwen-x", "qwen/qwen-x@openrouter.ai"),
        ("ollama/qwen:7b", "qwen:7b@localhost:11434"),
        ("lmstudio/qwen", "qwen@localhost:1234"),
        ("vllm/some/model", "some/model@localhost:8000"),
        ("llamacpp", "default@localhost:8080"),
        ("deepseek?temperature=0", "deepseek-chat@api.deepseek.com at temperature 0"),
    ],
)
def test_a_spec_names_a_service(spec: str, name: str) -> None:
    llm = connect(spec, environ=KEYS)
    assert llm.name == name
    llm.close()
    llm.close()


@pytest.mark.parametrize("provider", [n for n, p in PROVIDERS.items() if p.keys])
def test_a_missing_key_is_named_with_the_remedy(provider: str) -> None:
    key = PROVIDERS[provider].keys[0]
    with pytest.raises(ConfigError, match=rf"{key}.* is not set; set it \(export {key}="):
        connect(f"{provider}/x", environ={key: ""})


def test_gemini_takes_its_key_by_either_name() -> None:
    connect("gemini/x", environ={"GOOGLE_API_KEY": "sk-planted"}).close()


def test_without_its_library_anthropic_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    monkeypatch.delitem(sys.modules, "bilevel.llm.anthropic", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'bilevel\[anthropic\]'"):
        connect("anthropic/x", environ=KEYS)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("deepsek/x", "did you mean deepseek"),
        ("embeded", "did you mean embedded"),
        ("gpt-4", "give embedded, embedded:MODEL, PROVIDER/MODEL with one of openai, .* MODEL@URL"),
        ("ollama", "ollama serves many models; say which, as in ollama/MODEL"),
        ("embedded:smolm2-135m", "did you mean smollm2-135m"),
        ("embedded/smolm2-135m", "did you mean smollm2-135m"),
        ("scripted", "there is no LLM"),
        ("deepseek?rmp=3", "rmp: there is no such option; there are rpm, tpm, concurrency"),
        ("deepseek?rpm=0", "rpm=0.*greater than or equal to 1"),
        ("deepseek?rpm=many", "rpm=many.*valid integer"),
        ("deepseek?timeout=inf", "timeout=inf.*finite"),
        ("deepseek?fast", "'fast'; write them as rpm=60&timeout=300"),
    ],
)
def test_a_spec_that_is_none_names_what_is_known(spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        connect(spec, environ=KEYS)


def test_a_path_is_an_embedded_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file"):
        connect(f"embedded:{tmp_path}/mine.gguf")


def test_a_base_url_takes_any_model_and_its_own_key() -> None:
    with serving() as fake:
        llm = connect(
            "my/model", base_url=fake.url, temperature=0.1, environ={"BILEVEL_API_KEY": "sk-mine"}
        )
        llm.complete(ASK, seed=1, max_tokens=5)
        llm.close()
    assert fake.requests[0].body["model"] == "my/model"
    assert fake.requests[0].body["temperature"] == 0.1
    assert fake.requests[0].headers["authorization"] == "Bearer sk-mine"


def test_a_spec_may_carry_the_url_and_options() -> None:
    llm = connect("my/model@http://127.0.0.1:9/v1?temperature=0.3", environ={})
    assert llm.name == "my/model@127.0.0.1:9 at temperature 0.3"
    llm.close()


def test_options_of_the_environment_hold_where_the_spec_says_nothing() -> None:
    environ = {"BILEVEL_LLM_OPTIONS": "temperature=0.1&thoughts=9"}
    with serving() as fake:
        for spec in (f"m@{fake.url}", f"m@{fake.url}?temperature=0.3"):
            llm = connect(spec, environ=environ)
            llm.complete(ASK, seed=1, max_tokens=5)
            llm.close()
    assert [r.body["temperature"] for r in fake.requests] == [0.1, 0.3]
    assert [r.body["max_tokens"] for r in fake.requests] == [14, 14]


def at(name: str, url: str, environ: dict[str, str] = KEYS) -> LLM:
    """A provider's model, the provider itself being elsewhere."""
    return connect(f"{name}/m", environ={**environ, f"{name.upper()}_BASE_URL": url})


@pytest.mark.parametrize(
    ("name", "form", "fields"),
    [
        ("openai", "narrow_schema", {"max_completion_tokens": 5 + 4096, "seed": 1}),
        ("deepseek", "tool", {"max_tokens": 5 + 4096, "seed": 1}),
        ("gemini", "narrow_schema", {"max_tokens": 5 + 4096, "temperature": 0.7}),
        ("openrouter", "narrow_schema", {"max_tokens": 5 + 4096}),
        ("ollama", "json_schema", {"max_tokens": 5}),
        ("lmstudio", "json_schema", {"max_tokens": 5}),
        ("vllm", "json_schema", {"max_tokens": 5}),
        ("llamacpp", "gbnf", {"max_tokens": 5, "response_format": None, "grammar": gbnf(SCHEMA)}),
        pytest.param("anthropic", "narrow_schema", {"max_tokens": 5}, marks=needs_anthropic),
    ],
)
def test_each_provider_is_asked_in_its_own_way(
    name: str, form: str, fields: dict[str, object]
) -> None:
    with serving() as fake:
        root = name == "anthropic"
        fake.answers = [message('{"x": 1}') if root else completion('{"x": 1}')]
        llm = at(name, fake.root if root else fake.url)
        reply = llm.complete(ASK, SCHEMA, seed=1, max_tokens=5)
        llm.close()
    body = fake.requests[0].body
    assert reply.form == form
    assert {field: body.get(field) for field in fields} == fields
    assert ("temperature" in body) is (name not in ("openai", "anthropic"))
    assert ("seed" in body) is (name not in ("gemini", "anthropic"))
    assert ("tools" in body) is (form == "tool")


def test_llamacpp_gets_as_a_schema_what_a_grammar_cannot_say() -> None:
    patterned = {
        "type": "object",
        "properties": {"x": {"type": "string", "pattern": "^a+$"}},
        "required": ["x"],
    }
    with serving() as fake:
        fake.answers = [completion('{"x": "aa"}'), completion('{"x": 1}')]
        llm = at("llamacpp", fake.url)
        forms = [llm.complete(ASK, s, seed=1, max_tokens=5).form for s in (patterned, SCHEMA)]
        llm.close()
    assert forms == ["json_schema", "gbnf"]
    first, second = (request.body for request in fake.requests)
    assert first["response_format"]["json_schema"]["schema"] == patterned
    assert "grammar" not in first
    assert "response_format" not in second


def test_llamacpp_whose_grammar_is_not_heeded_gets_the_schema_next() -> None:
    with serving() as fake:
        fake.answers = [completion("I think that")] * UNHEEDED + [completion('{"x": 1}')]
        llm = at("llamacpp", fake.url)
        forms = [llm.complete(ASK, SCHEMA, seed=1, max_tokens=5).form for _ in fake.answers[:]]
        llm.close()
    assert forms == ["gbnf"] * UNHEEDED + ["json_schema"]


def test_a_reply_in_another_form_is_found_once_for_all_runs() -> None:
    def lmstudio(request: Request) -> Answer:
        if request.body["response_format"]["json_schema"]["schema"] == WITH_BOUND:
            return refusal(400, "minLength is not supported")
        return completion('{"x": "abc"}')

    with serving() as fake:
        fake.answers = [lmstudio]
        for attempts in (2, 1):
            llm = at("lmstudio", fake.url)
            assert llm.complete(ASK, WITH_BOUND, seed=1, max_tokens=5).attempts == attempts
            llm.close()


WITH_BOUND = {
    "type": "object",
    "properties": {"x": {"type": "string", "minLength": 3}},
    "required": ["x"],
}


def test_connect_imports_no_client_before_it_needs_one() -> None:
    code = (
        "import sys, bilevel.llm.connect, bilevel.llm.weights;"
        "heavy = {'openai', 'anthropic', 'keyring', 'jsonschema', 'xllamacpp', 'torch'};"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
