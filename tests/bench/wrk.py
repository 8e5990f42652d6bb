"""wrk, the load generator: one thread, closed loop, answers as JSON."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SLACK_S = 30.0

# wrk's `done` is given exact figures; its printed report rounds them.
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  local broken = e.connect + e.read + e.write + e.timeout
  io.write(string.format("\\nRESULT [%d,%d,%d,%d,%d,%d]\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.status, broken))
end
"""
_REQUESTS = """
wrk.headers = {headers}
local bodies, paths, made, at = {bodies}, {paths}, {{}}, 0
init = function(args)
  for i = 1, #paths do made[i] = wrk.format("{method}", paths[i], nil, bodies[1]) end
end
request = function()
  at = at + 1
  return made[(at - 1) % #made + 1]
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: ``paths`` in turn, over and over."""

    method: str
    paths: Sequence[str]
    headers: Mapping[str, str]
    body: str | None = None

    def script(self) -> str:
        return (
            _REQUESTS.format(
                headers=_lua_table(self.headers),
                bodies="{" + (json.dumps(self.body) if self.body is not None else "") + "}",
                paths="{" + ",".join(json.dumps(path) for path in self.paths) + "}",
                method=self.method,
            )
            + _DONE
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of it. Latencies are seconds."""

    requests: int
    seconds: float
    p50_s: float
    p99_s: float

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def available() -> bool:
    return shutil.which("wrk") is not None


def run(directory: Path, url: str, load: Load, *, connections: int, seconds: float) -> Answers:
    """Put ``load`` on ``url``. Raises when an answer was not 2xx or 3xx, or a connection broke."""
    script = directory / "load.lua"
    script.write_text(load.script())
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--timeout",
        "20s",
        "-s",
        str(script),
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + _SLACK_S)
    requests, micros, p50, p99, refused, broken = json.loads(done.stdout.rpartition("RESULT ")[2])
    if refused or broken:
        raise RuntimeError(f"{url}: {refused} refused, {broken} broken of {requests}")
    return Answers(requests, micros / 1e6, p50 / 1e6, p99 / 1e6)


def _lua_table(values: Mapping[str, str]) -> str:
    return "{" + ",".join(f"[{json.dumps(k)}]={json.dumps(v)}" for k, v in values.items()) + "}"
