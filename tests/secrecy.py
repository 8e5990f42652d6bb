"""No key or token that the suite issues may turn up where it has no business (peers.md, A7).

A whole key is known by its form and its checksum, so none need be written down to be looked for; other tokens
are named by whoever makes them up (`issue`). Looked through are, for the whole run: every log line as the
gateway would write it, every answer to an HTTP client of a test, and every file of every database and log
that a test leaves behind. Leaks are told by public id or by the first letters, never whole.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from gateway.accounts import keys
from gateway.telemetry import JsonFormatter

_KEY = re.compile(keys.PATTERN.encode())
_WEBHOOK_SECRET = re.compile(rb"whsec_[A-Za-z0-9+/]{32,}={0,2}")
# Where a secret is shown to whoever made it, once; a webhook's whenever it is asked for, there alone.
_SHOWS_SECRETS = re.compile(r"POST .*/(keys|rotate|webhooks|rotate-secret)|GET .*/api/webhooks/(.*/)?secret")
_KEPT = ("*.db", "*.db-wal", "*.db-journal", "*.log")
_TOLD_LETTERS = 8

_issued: set[bytes] = set()


def issue(token: str) -> str:
    """Name a token that must turn up nowhere; the token itself, for use in a constant."""
    _issued.add(token.encode())
    return token


def secrets_in(text: bytes) -> Iterator[str]:
    """The secrets in a text, as far as may be told of each."""
    for found in _KEY.findall(text):
        presented = keys.parse(found.decode())
        if presented is not None:
            yield f"key {presented.public_id}"
    for found in _WEBHOOK_SECRET.findall(text):
        yield f"webhook secret {found[: _TOLD_LETTERS + 6].decode()}…"
    for token in _issued:
        if token in text:
            yield f"token {token[:_TOLD_LETTERS].decode()}…"


@dataclass
class Watch:
    """Everything that was found out of place, and where."""

    leaks: list[str] = field(default_factory=list)

    def look(self, text: bytes, where: str) -> None:
        self.leaks += [f"{secret} in {where}" for secret in secrets_in(text)]

    def look_at_answer(self, response: httpx.Response) -> None:
        try:
            method, path = response.request.method, response.request.url.path
        except RuntimeError:  # made up by a test: it answers nothing
            return
        if response.is_success and _SHOWS_SECRETS.fullmatch(f"{method} {path}"):
            return
        head = repr(response.headers.multi_items()).encode()
        self.look(head + response.content, f"the answer to {method} {path}, {_test()}")

    def look_at_files(self, directory: Path, patterns: Iterable[str] = _KEPT) -> None:
        for pattern in patterns:
            for path in directory.rglob(pattern):
                if path.is_file():
                    self.look(path.read_bytes(), str(path.relative_to(directory)))


class WatchedLog(logging.Handler):
    """Looks at every record as the gateway would write it."""

    def __init__(self, watch: Watch, formatter: logging.Formatter | None = None) -> None:
        super().__init__(logging.DEBUG)
        self._watch = watch
        self.setFormatter(formatter or JsonFormatter("test-project"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._watch.look(self.format(record).encode(), f"a log line, {_test()}")
        except Exception:  # noqa: BLE001 - a record that cannot be written is its own test's to find
            self.handleError(record)


def _test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "no test")  # noqa: TID251 - pytest's own, not a setting
