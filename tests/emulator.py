"""The emulator for tests: a process of its own on a free loopback port. Imports nothing of gateway.

    with start_emulator() as emulator:
        emulator.script({"preset": "recitation"}, {"cut_at_byte": 5000, "model": "musicgen", "times": 2})
        ... call emulator.url + "/v1/projects/p/locations/l/publishers/google/models/lyria-002:predict" ...
        assert emulator.calls()["paid"] == 1

What a fault may say is documented at `gateway.emulator.faults.Fault`. Clips of Lyria 2 are one second long
here unless ``lyria_seconds`` says otherwise, those of Lyria 3 two and at most four.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

_ANNOUNCEMENT = "emulator ready on "
_STOP_TIMEOUT_S = 20.0
_LOOK_EVERY_S = 0.01
_MOST_LOOKS = 2000
#: What tests start with.
_QUICK: dict[str, Any] = {
    "latency_s": 0.0,
    "lyria_seconds": 1.0,
    "lyria3_clip_seconds": 2.0,
    "lyria3_pro_seconds": 4.0,
    "interactions_shape": "steps",
    "endpoint_kind": "none",
    "default_seed": None,
}


class RunningEmulator:
    """A running emulator and its controls. ``url`` has no slash at its end."""

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self.url = url
        self.process = process
        self._control = httpx.Client(base_url=f"{url}/control", timeout=30.0, trust_env=False)

    def script(self, *faults: dict[str, Any]) -> None:
        """Append faults to the queue; each is used by the next call that matches it."""
        self._send("POST", "/faults", list(faults))

    def calls(self) -> dict[str, Any]:
        """``received``, ``paid``, ``clips`` (paid ones), ``answered``, ``blocked``, ``invalid``, ``failed``,
        ``cut``, ``abandoned``, ``running``, ``peak_running``, the same ``by_model``, and ``calls``: the last
        ones in order."""
        return self._send("GET", "/calls")

    def queued_faults(self) -> int:
        return int(self._send("GET", "/faults")["queued"])

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change some of `gateway.emulator.desk.Settings`; returns all of them."""
        return self._send("POST", "/settings", changes)

    def reset(self) -> None:
        """Forget faults and calls, and go back to the settings that tests start with."""
        self._send("DELETE", "/faults")
        self._send("DELETE", "/calls")
        self.settings(**_QUICK)

    def wait_until_running(self, count: int) -> None:
        """Return once exactly ``count`` calls are being served."""
        for _ in range(_MOST_LOOKS):
            if self.calls()["running"] == count:
                return
            time.sleep(_LOOK_EVERY_S)
        raise AssertionError(f"never {count} calls running: {self.calls()}")

    def close(self) -> None:
        self._control.close()

    def _send(self, method: str, path: str, document: Any = None) -> dict[str, Any]:
        response = self._control.request(method, path, json=document)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


@contextmanager
def start_emulator(
    *options: str, lyria_seconds: float = 1.0, directory: Path | None = None
) -> Iterator[RunningEmulator]:
    """Start one and stop it in the end. ``options`` are further words for its command line.

    Its code is in ``directory``, if not here.
    """
    command = [sys.executable, "-m", "gateway.emulator.server", "--port", "0", "--watch-parent", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=directory
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line.startswith(_ANNOUNCEMENT), f"the emulator did not start: {line!r}"
            emulator = RunningEmulator(line.removeprefix(_ANNOUNCEMENT), process)
            try:
                quick = {name: value for name, value in _QUICK.items() if name != "latency_s"}
                emulator.settings(**quick | {"lyria_seconds": lyria_seconds})
                yield emulator
            finally:
                emulator.close()
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_S)
