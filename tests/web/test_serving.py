"""`impasto ui`: where it listens, for whom, and what outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from impasto.__main__ import main
from impasto.errors import ConfigError, LockedError
from impasto.runs import lanes
from impasto.web import serving
from tests.web import made


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server in a process of its own: it, its address and its token."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "impasto", "ui", "--no-browser", "--no-workers", *options]
    with (
        (folder / "errors").open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=environment, text=True
        ) as server,
    ):
        assert server.stdout is not None
        try:
            found = re.search(r"(http://\S+)/#token=(\S+)", server.stdout.readline())
            assert found is not None
            yield server, found[1], found[2]
        finally:
            server.kill()


def asked(address: str, token: str, path: str, *, method: str = "GET") -> Any:
    request = urllib.request.Request(address + path, headers={"X-Impasto-Token": token}, method=method)
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:  # it listens, and does not answer yet
            time.sleep(0.1)
    raise TimeoutError


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are looked up in /proc")
def test_it_listens_to_this_machine_only_and_ends_at_once_and_quietly(tmp_path: Path) -> None:
    made.finished(tmp_path / "runs" / "anna")
    made.finished(tmp_path / "quickstart" / "zorb")
    (tmp_path / "quickstart" / "quickstart.toml").touch()  # the example was trained here
    with served(tmp_path) as (server, address, token):
        assert len(token) >= 43
        shown = {each["id"] for each in asked(address, token, "/api/runs")["runs"]}
        assert shown == {"runs:anna", "quickstart:zorb"}
        assert list(_listening(server.pid)) == ["0100007F"]
        with ExitStack() as tabs:
            for path in ("/api/stream", "/api/runs/runs%3Aanna/stream") * 3:
                stream = urllib.request.Request(address + path, headers={"X-Impasto-Token": token})
                told = tabs.enter_context(urllib.request.urlopen(stream, timeout=20))
                assert told.readline() == b"retry: 2000\n"
            begun = time.monotonic()
            server.send_signal(signal.SIGINT)
            server.wait(30)
            assert time.monotonic() - begun < 8, "open streams do not keep it; on an idle machine it takes a second"
        assert (tmp_path / "errors").read_text() == ""
        assert token not in Path(f"/proc/{os.getpid()}/cmdline").read_text()


def _listening(pid: int) -> Iterator[str]:
    inodes = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                yield fields[1].partition(":")[0]


def test_a_port_in_use_is_passed_over_unless_it_was_asked_for() -> None:
    with serving.listening("127.0.0.1", 0, tries=1) as first:
        port = first.getsockname()[1]
        with serving.listening("127.0.0.1", port, tries=20) as second:
            assert second.getsockname()[1] > port
        with pytest.raises(LockedError, match="is in use"), serving.listening("127.0.0.1", port, tries=1):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.example", "127.0.0.1.evil.com", ""])
def test_listening_to_others_needs_a_flag_and_names(host: str) -> None:
    with pytest.raises(ConfigError, match="SSH tunnel"):
        serving.check_exposure(host, exposed=False, names=["box.example"])
    with pytest.raises(ConfigError, match="--allowed-host"):
        serving.check_exposure(host, exposed=True, names=[])
    serving.check_exposure(host, exposed=True, names=["box.example"])


@pytest.mark.parametrize("name", ["*", "", "box.example:80", "http://box.example", "a b", "box/x"])
def test_a_name_that_is_no_host_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no host name"):
        serving.check_exposure("127.0.0.1", exposed=False, names=[name])


@pytest.mark.parametrize(
    "token",
    ["", "password", "a" * 100, "abcabcabc" * 20, "impasto-token", "two words and enough of them to be long", "é" * 50],
)
def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path, token: str) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(0o600)
    with pytest.raises(ConfigError):
        serving.check_token(token, file)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = "kJ8-2hQz_71LmNvB5xCwE4rTyUiOp0aSdFgH93jKlZq"
    file.write_text(token)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        serving.check_token(token, file)
    file.chmod(0o600)
    serving.check_token(token, file)


def test_the_whole_disk_is_no_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ui", "--no-browser", "--root", "/"]) == 2
    assert "E-WEB-011" in capsys.readouterr().err
    assert main(["ui", "--no-browser", "--host", "0.0.0.0"]) == 2
    assert "E-WEB-009" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "environment", "found"),
    [
        (["null", "nvidia0", "nvidia3", "nvidiactl"], {}, ["cuda:0", "cuda:1"]),
        (["nvidia0", "nvidia1"], {"CUDA_VISIBLE_DEVICES": "1"}, ["cuda:0"]),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": ""}, ["cpu"]),
        (["null"], {}, ["cpu"]),
    ],
)
def test_each_gpu_is_a_lane(tmp_path: Path, names: list[str], environment: dict[str, str], found: list[str]) -> None:
    (tmp_path / "dev").mkdir()
    for name in names:
        (tmp_path / "dev" / name).touch()
    assert lanes.devices(environment, tmp_path) == found
