"""A mechanism's source as it came from an LLM, freed of what is wrapped around it or forgotten.

First as plain text (fences, prose, tabs), then, where it parses, by its syntax tree (mending.py).
Nothing that decides anything is added: a source that is wrong stays wrong, for its author to mend.
"""

from __future__ import annotations

import codeop
import re
import textwrap
import warnings
from collections.abc import Iterator

from bilevel.gate.free_names import parse
from bilevel.gate.mending import mend
from bilevel.sandbox.policy import SOURCE_BYTES

PASSES = 5  # one mend may make room for the next; more than three were never seen
CUTS = 200  # ends tried when looking for where the code stops

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.M | re.S)
_CLASS = re.compile(r"^[ \t]*class[ \t]+\w+[^\n]*:", re.M)
_HOOK = re.compile(r"^[ \t]*def[ \t]+(plan|screen|accept)[ \t]*\(", re.M)
_CODE = re.compile(
    r"""(from\s+[\w.]+\s+import\s|import\s+[\w.]+(\s+as\s+\w+)?(\s*,\s*[\w.]+)*\s*(\#.*)?$
    |class\s+\w+\s*[(:]|def\s+\w+\s*\(|@\w|\#|\"\"\"|'''|[A-Za-z_]\w*\s*(:[^=]+)?=[^=])""",
    re.X,
)
_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>")  # a model's own marks, such as <|im_end|>
_TYPOGRAPHY = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ", "\u200b": ""})


def normalise(text: str) -> str:
    """The source alone, its imports in order; the same text for a text that is in order already.

    Prose, fences, tabs and example usage around the class go; imports that are missing come, those
    that are unused go; types that are not there go from annotations; `random.f` is `view.rng.f`
    where a view is at hand. A text over the sandbox's limit is left as it is.
    """
    text = text.encode("utf-8", "replace").decode()  # a half of a surrogate pair is no source
    if len(text.encode()) > SOURCE_BYTES:
        return text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the source's own escapes and comparisons
        for _ in range(PASSES):
            before, text = text, _once(text)
            if text == before:
                break
    return text


def _once(text: str) -> str:
    text = _plain(text)
    mended = mend(text) if parse(text) is not None else text
    mended = mended.strip("\n")
    return f"{mended}\n" if mended else ""


def _plain(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    text = _fenced(text.rpartition("</think>")[2])
    lines = [_spaced(line) for line in text.split("\n")]
    text = textwrap.dedent("\n".join(lines)).strip("\n")
    if parse(text) is None:
        clean = textwrap.dedent(_TOKEN.sub("", text).translate(_TYPOGRAPHY))
        text = next((t for t in _cuts(clean) if parse(t) is not None), text)
    return text


def _fenced(text: str) -> str:
    """The last fenced block that holds a mechanism; what stands before a fence that only closes."""
    blocks = list(_FENCE.finditer(text))
    if not blocks:
        return text
    parts = [text[: blocks[0].start()], *(b[2] for b in blocks)]
    for wanted in (_HOOK, _CLASS):
        found = [p for p in parts if _CLASS.search(p) and wanted.search(p)]
        if found:
            return found[-1]
    return text


def _spaced(line: str) -> str:
    """The line with spaces for the tabs that it is indented by."""
    code = line.lstrip(" \t")
    return line[: len(line) - len(code)].expandtabs(4) + code


def _cuts(text: str) -> Iterator[str]:
    """The text without the prose before and after its code, least cut off first."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _CODE.match(line)), 0)
    if start and _prose_only(lines[start:]):
        return
    yield "\n".join(lines)
    yield "\n".join(lines[start:])
    classes = [i for i, line in enumerate(lines) if line.startswith("class ")]
    if not classes:
        return
    # A second mechanism is never cut off, whatever is wrong with it.
    ends = [i for i in range(classes[-1] + 1, len(lines)) if lines[i][:1] not in ("", " ", ")")]
    for end in list(reversed(ends))[:CUTS]:
        yield "\n".join(lines[start:end])
    yield from _unfinished(lines[start:])


def _prose_only(lines: list[str]) -> bool:
    return not any(line.startswith(("class ", "def ")) for line in lines)


def _unfinished(lines: list[str]) -> Iterator[str]:
    """The class without its last method, when the text breaks off in it and a hook stays."""
    text = "\n".join(lines)
    try:
        whole = codeop.compile_command(text, symbol="exec") is not None
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return
    methods = [i for i, line in enumerate(lines) if re.match(r"[ ]+(def |@)", line)]
    shallow = min((len(lines[i]) - len(lines[i].lstrip()) for i in methods), default=0)
    methods = [i for i in methods if len(lines[i]) - len(lines[i].lstrip()) == shallow]
    rest = "\n".join(lines[: methods[-1]]) if methods else ""
    if not whole and _HOOK.search(rest):
        yield rest
