"""What was found out about servers, kept between runs in one small file of the user's cache."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, cast

from bilevel.llm.forms import FORMS, Form, Manner
from bilevel.llm.weights import folder

log = logging.getLogger(__name__)
DAYS = 30  # after which a server is tried again, as it may have learned


def default_path() -> Path:
    """The file in the cache folder, beside the weights."""
    return folder().parent / "servers.json"


class Memory:
    """By server and model, how it is asked, with the reason and the date. today: for tests."""

    def __init__(self, path: Path, today: Callable[[], date] = date.today) -> None:
        self.path = path
        self._today = today

    def find(self, server: str, model: str) -> Manner | None:
        """How this model is asked; None where nothing is known or it is too long ago."""
        entry = self._read().get(_key(server, model))
        try:
            return self._manner(entry)
        except (TypeError, KeyError, ValueError) as error:
            log.warning(
                "what %s says of %s is not understood (%s: %s); it is found out again",
                self.path, server, type(error).__name__, error,
            )  # fmt: skip
            return None

    def keep(self, server: str, model: str, manner: Manner, why: str) -> None:
        """Add to the file. Where it cannot be written the log says so, and nothing is lost."""
        entry = {
            "form": manner.form,
            "of": list(FORMS),
            "without": sorted(manner.without),
            "why": why,
            "date": self._today().isoformat(),
        }
        text = json.dumps({**self._read(), _key(server, model): entry}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self.path.parent, prefix=".servers-", delete=False, encoding="utf-8"
            ) as file:
                file.write(text)
            Path(file.name).replace(self.path)
        except OSError as error:
            log.warning("what was found out about %s is not kept: %s", server, error)

    def _manner(self, entry: Any) -> Manner | None:
        if entry is None or (self._today() - date.fromisoformat(entry["date"])).days > DAYS:
            return None
        # Found out by a version that knew other forms: there may be a stronger one now.
        if entry["form"] not in FORMS or entry.get("of") != list(FORMS):
            return None
        return Manner(cast(Form, entry["form"]), frozenset(map(str, entry["without"])))

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read and is begun anew: %s", self.path, error)
            return {}
        return found if isinstance(found, dict) else {}


def _key(server: str, model: str) -> str:
    return f"{server} {model}"
