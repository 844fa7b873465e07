"""Prompts as text files: `render("propose_ask", ...)` fills in one."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from string import Template


@cache
def _template(name: str) -> Template:
    return Template((resources.files(__package__) / f"{name}.md").read_text(encoding="utf-8"))


def render(name: str, /, **values: object) -> str:
    """The prompt of that name with its `$fields` filled in. Raises KeyError for a missing one."""
    return _template(name).substitute(values)


# What chat templates and tokenizers read as more than text: ChatML, Llama 2 and 3, Mistral, Gemma,
# DeepSeek (its bars are full-width), and tags of thoughts and tools. Servers parse them anywhere.
_MARK = re.compile(
    r"<(?=[|｜]|<SYS>>|</SYS>>|/?(?:s|bos|eos|pad|unk|think|tools?|tool_call|tool_response)>"
    r"|(?:start|end)_of_turn>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|BOS|EOS|gMASK)\])"
)


def unmarked(text: str) -> str:
    """The text with a blank in each mark that would end its message in a model's chat template."""
    return _MARK.sub(lambda mark: f"{mark[0]} ", text)
