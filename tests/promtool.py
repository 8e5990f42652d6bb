"""Prometheus's own programs, of Debian's package: promtool, and a server on a loopback port.

with start_prometheus(tmp_path, configuration) as prometheus:
    prometheus.query("up")
"""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.running import free_port

_WITHIN_S = 60.0

Json = dict[str, Any]


def why_unavailable() -> str | None:
    """What keeps this machine from running them; None when nothing does."""
    if shutil.which("promtool") is None or shutil.which("prometheus") is None:
        return "these tests need promtool and prometheus: make setup-dev installs them on Debian"
    return None


def promtool(*arguments: str, cwd: Path) -> list[str]:
    """What it has against something, line by line; nothing when it has nothing."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=_WITHIN_S * 2
    )
    if done.returncode == 0:
        return []
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def faults_of(expressions: list[str], directory: Path) -> list[str]:
    """What promtool has against expressions, each wrapped in a rule."""
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    path = directory / "wrapped.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "wrapped", "rules": rules}]}))
    return promtool("check", "rules", path.name, cwd=directory)


def as_asked(query: str) -> str:
    """A query of the dashboard as Grafana sends it, with everything chosen."""
    return re.sub(r"\$\w+", ".+", query.replace("$__rate_interval", "5m"))


_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*(\d+)")
_NAME = re.compile(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"}


class Expression:
    """The names in an expression that promtool has parsed before.

    ``metrics`` are those of series, ``groupings`` labels of ``by`` and the like, ``matchers`` all
    ``(metric, label, operator, text)``.
    """

    def __init__(self, text: str) -> None:
        texts: list[str] = []

        def put_aside(found: re.Match[str]) -> str:
            texts.append(found[0][1:-1])
            return str(len(texts) - 1)

        bare = re.sub(r"\[[^\]]*\]", "", _TEXT.sub(put_aside, text))
        self.groupings = {name.strip() for each in _GROUPING.findall(bare) for name in each.split(",")}
        bare = _GROUPING.sub("", bare)
        self.matchers = [
            (metric, label, operator, texts[int(number)])
            for metric, inside in _SELECTOR.findall(bare)
            for label, operator, number in _MATCHER.findall(inside)
        ]
        names = _NAME.findall(re.sub(r"\{[^}]*\}", "", bare))
        self.metrics = {name for name in names if name.lower() not in _WORDS}


class RunningPrometheus:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=30, trust_env=False)

    def is_ready(self) -> bool:
        try:
            return self._http.get("/status/runtimeinfo").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[Json]:
        """The series of an expression now, each with ``metric`` and ``value``. Fails where it is wrong."""
        response = self._http.get("/query", params={"query": expression})
        assert response.status_code == 200, f"{expression}: {response.text}"
        found: list[Json] = response.json()["data"]["result"]
        return found

    def rules(self) -> list[Json]:
        groups = self._http.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def close(self) -> None:
        self._http.close()


@contextmanager
def start_prometheus(directory: Path, configuration: Json) -> Iterator[RunningPrometheus]:
    """One of one's own, with nothing stored before and nothing kept. Ended in the end."""
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'series'}",
        f"--web.listen-address={address}",
    ]
    log_path = directory / "prometheus.log"
    with log_path.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        prometheus = RunningPrometheus(f"http://{address}")
        try:
            give_up_at = time.monotonic() + _WITHIN_S
            while not prometheus.is_ready():
                assert process.poll() is None, log_path.read_text()
                assert time.monotonic() < give_up_at, log_path.read_text()
                time.sleep(0.05)
            yield prometheus
        finally:
            prometheus.close()
            process.kill()
