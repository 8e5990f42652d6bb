"""The LiteLLM proxy, the comparison: in an environment of its own, from hash-locked requirements."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import environments
from tests.bench.processes import Server, start
from tests.bench.wrk import Load
from tests.running import free_port

REQUIREMENTS = Path(__file__).with_name("requirements-litellm.txt")
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


def version() -> str:
    """The locked one."""
    line = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("litellm=="))
    return line.partition("==")[2].split()[0]


@contextmanager
def running(upstream: Server, directory: Path) -> Iterator[Server]:
    """The proxy with one worker in front of ``upstream``."""
    programs = environments.make("litellm", REQUIREMENTS)
    config = directory / "litellm.yaml"
    config.write_text(_CONFIG.format(upstream=upstream.url, key=_KEY))
    port = free_port()
    command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    environment = {**os.environ, **_ENVIRONMENT}  # noqa: TID251 - handed on, not read
    url = f"http://127.0.0.1:{port}"
    with start(command, url, "/health/liveliness", directory / "litellm.log", environment) as server:
        yield server
