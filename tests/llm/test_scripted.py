import pytest

from bilevel.errors import LLMUnavailable
from bilevel.llm.scripted import ScriptedLLM
from bilevel.model import Message
from bilevel.protocols import LLM

TALK = [Message("user", "four words in here")]


def test_its_name_gives_it_away() -> None:
    llm: LLM = ScriptedLLM([], "calm")
    assert llm.name == "scripted:calm"
    assert ScriptedLLM([]).name == "scripted"


def test_texts_and_errors_come_in_order_and_then_end() -> None:
    llm = ScriptedLLM(["a b c", LLMUnavailable("gone"), "d"])
    reply = llm.complete(TALK, seed=1, max_tokens=2)
    assert (reply.text, reply.finish, reply.model) == ("a b", "length", "scripted")
    assert (reply.tokens_in, reply.tokens_out) == (4, 2)
    with pytest.raises(LLMUnavailable, match="gone"):
        llm.complete(TALK, seed=1, max_tokens=2)
    assert llm.complete(TALK, seed=1, max_tokens=2).finish == "stop"
    with pytest.raises(LLMUnavailable, match="call 4 but the script has 3 replies"):
        llm.complete(TALK, seed=1, max_tokens=2)
    assert len(llm.calls) == 4


def test_a_function_sees_messages_schema_and_seed() -> None:
    llm = ScriptedLLM(lambda talk, schema, seed: f"{talk[-1].content}/{schema}/{seed}")
    reply = llm.complete(TALK, {"type": "object"}, seed=3, max_tokens=99)
    assert reply.text == "four words in here/{'type': 'object'}/3"
    llm.close()
    assert llm.closed
