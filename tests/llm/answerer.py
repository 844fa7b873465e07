"""A program that answers a mailbox: `python answerer.py FOLDER COUNT`; first badly, then well."""

import json
import sys
import time
from pathlib import Path
from typing import Any


def put(folder: Path, name: str, text: str) -> None:
    """Write a file that is there whole or not at all, as the protocol asks."""
    half = folder / f"{name}.half"
    half.write_text(text)
    half.rename(folder / name)


def wait_for(path: Path) -> Any:
    while not path.exists():
        time.sleep(0.02)
    return json.loads(path.read_text())


def main(folder: Path, count: int) -> None:
    for number in range(1, count + 1):
        request = wait_for(folder / f"{number:04d}.request.json")
        reply = folder / f"{number:04d}.reply.json"
        put(folder, request["answer"], "I am not sure.")
        while "accepted" not in (said := wait_for(reply)) or said["accepted"]:
            time.sleep(0.02)
        print(said["problem"], flush=True)
        rate = round(0.5 - 0.1 * number, 2)
        change = {"changes": [{"name": "RATE", "value": rate}], "hypothesis": "lower is better"}
        put(folder, request["answer"], json.dumps(change))
        while not wait_for(reply)["accepted"]:
            time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
