"""The child process that serves a model on loopback; run as a script by `launch.py`.

Reads one line of JSON from stdin: model, alias, key, threads, context, slots, parent (process id)
and bound (whether to die with the parent's main thread). Answers with one line: {"url": ...}.
It ends when its stdin closes or its parent is gone, whichever it notices first. The key comes
by stdin because a command line can be read by anyone on the machine.

Settings that make a reply depend on prompt and seed alone, not on what the prompt cache holds
or on the number of threads (measured, see `embedded.py`): no flash attention and no repacked
weights, whose sums run in another order for other batch sizes. Without them reading is faster,
and takes 600 MB less with the larger model.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import threading
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer.
    if settings["bound"] and sys.platform == "linux":
        # The one watcher that also works while the model loads and Python stands still.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(settings["parent"],), daemon=True).start()
    try:
        server = _serve(settings)
    except (ImportError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.write(json.dumps({"url": server.listening_address}) + "\n")
    sys.stdout.flush()
    threading.Event().wait()


def _watch(parent: int) -> None:
    """End this process when the parent closes our stdin or is no longer our parent."""
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin], [], [], 0.5)
        if ready and not os.read(sys.stdin.fileno(), 1):
            break
    os._exit(0)


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.model_alias = [settings["alias"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.api_keys = [settings["key"]]
    params.n_ctx = settings["context"] * settings["slots"]
    params.n_parallel = settings["slots"]
    params.kv_unified = False  # Each slot has memory of its own, and loses nothing to another.
    params.n_batch = params.n_ubatch = 2048  # A prompt in one piece leaves no short last one.
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = settings["threads"]
        cpu.poll = 0
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.no_extra_bufts = True
    params.cache_prompt = True
    params.cache_ram_mib = 0  # Up to 8 GB by default, for prompts of other conversations.
    params.fit_params = False
    params.warmup = False
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 2  # warnings and errors
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
