"""The LiteLLM proxy, the comparison: in an environment of its own, from hash-locked requirements."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import Server, start
from tests.bench.wrk import Load
from tests.running import free_port

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".bench" / "litellm"
REQUIREMENTS = Path(__file__).with_name("requirements-litellm.txt")
_INSTALL_WITHIN_S = 600.0
_KEY = "sk-local-bench"

_CONFIG = """\
model_list:
  - model_name: fake
    litellm_params: {{model: openai/fake, api_base: "{upstream}/v1", api_key: none}}
litellm_settings: {{telemetry: false, drop_params: true}}
general_settings: {{master_key: {key}}}
"""
# The first keeps it from fetching a price list, the others from telling and drawing things.
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "NO_DOCS": "True",
    "DISABLE_ADMIN_UI": "True",
    "LITELLM_LOG": "ERROR",
}

CHAT_PATH = "/v1/chat/completions"
#: What it is asked: its key is checked, the call forwarded, the answer passed back.
LOAD = Load(
    "POST",
    [CHAT_PATH],
    {"Content-Type": "application/json", "Authorization": f"Bearer {_KEY}"},
    '{"model":"fake","messages":[{"role":"user","content":"uplifting electronic track with soft piano"}]}',
)


def install() -> None:
    """Into ``.bench/litellm``, unless what the lock says is there already."""
    stamp = HOME / "installed"
    wanted = REQUIREMENTS.read_text()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"Installing LiteLLM into {HOME.relative_to(ROOT)}, from PyPI ...", flush=True)
    uv = [sys.executable, "-m", "uv"]
    _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(HOME)])
    install = ["pip", "install", "--quiet", "--compile-bytecode", "--require-hashes"]
    _run([*uv, *install, "--python", str(HOME / "bin" / "python"), "-r", str(REQUIREMENTS)])
    stamp.write_text(wanted)


def version() -> str:
    """The locked one."""
    line = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("litellm=="))
    return line.partition("==")[2].split()[0]


@contextmanager
def running(upstream: Server, directory: Path) -> Iterator[Server]:
    """The proxy with one worker in front of ``upstream``."""
    install()
    config = directory / "litellm.yaml"
    config.write_text(_CONFIG.format(upstream=upstream.url, key=_KEY))
    port = free_port()
    command = [str(HOME / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    environment = {**os.environ, **_ENVIRONMENT}  # noqa: TID251 - handed on, not read
    url = f"http://127.0.0.1:{port}"
    with start(command, url, "/health/liveliness", directory / "litellm.log", environment) as server:
        yield server


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=_INSTALL_WITHIN_S)
