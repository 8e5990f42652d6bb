"""The watch that is kept over the whole run (tests/secrecy.py) would find what it looks for."""

import logging
import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gateway.accounts import keys
from gateway.model import KeyMode
from tests.secrecy import Watch, WatchedLog, issue, secrets_in


@pytest.fixture
def key() -> keys.MintedKey:
    return keys.mint(secrets.choice, KeyMode.TEST)


def answer(method: str, path: str, text: str, status: int = 200, **headers: str) -> Any:
    """What the watch sees of an answer; a real one would be seen by the watch over this very run."""
    return SimpleNamespace(
        request=SimpleNamespace(method=method, url=SimpleNamespace(path=path)),
        is_success=status < 400,
        headers=httpx.Headers(headers),
        content=text.encode(),
    )


def test_a_whole_key_is_found_in_any_text_and_not_told(key: keys.MintedKey) -> None:
    found = list(secrets_in(f'{{"detail": "no key {key.text}"}}'.encode()))
    assert found == [f"key {key.public_id}"]


def test_what_only_looks_like_a_key_is_not(key: keys.MintedKey) -> None:
    assert list(secrets_in(key.text[:-1].encode())) == []
    assert list(secrets_in((key.text[:-6] + "000000").encode())) == []
    assert list(secrets_in(f"mg_test_{key.public_id}_***".encode())) == []


def test_tokens_that_were_named_and_webhook_secrets_are_found() -> None:
    token = issue(secrets.token_hex(20))
    assert list(secrets_in(f"Bearer {token}".encode())) == [f"token {token[:8]}…"]
    assert len(list(secrets_in(b"whsec_" + b"A" * 43 + b"="))) == 1


def test_a_log_line_is_seen_as_the_gateway_would_write_it(key: keys.MintedKey) -> None:
    watch, logger = Watch(), logging.getLogger("test_secrecy")
    logger.propagate = False  # nor may the watch over this very run see it
    logger.addHandler(WatchedLog(watch))
    logger.warning("refused %s", key.text)
    assert watch.leaks == []
    logger.addHandler(WatchedLog(watch, logging.Formatter()))
    logger.warning("refused %s", key.text)
    logger.handlers.clear()
    assert [leak.split(",")[0] for leak in watch.leaks] == [f"key {key.public_id} in a log line"]


@pytest.mark.parametrize(
    ("method", "path", "status", "leaks"),
    [
        ("GET", "/api/task-status/x", 404, 1),
        ("POST", "/api/music_generate", 200, 1),
        ("GET", "/admin/api/keys", 200, 1),
        ("POST", "/admin/api/tenants/t/keys", 400, 1),
        ("POST", "/admin/api/tenants/t/keys", 201, 0),
        ("POST", "/admin/api/keys/k/rotate", 200, 0),
        ("POST", "/api/webhooks", 201, 0),
        ("POST", "/api/webhooks/w/rotate-secret", 200, 0),
        ("GET", "/api/webhooks/w/secret", 200, 0),
        ("GET", "/api/webhooks/secret", 200, 0),
        ("GET", "/api/webhooks/w/secret", 404, 1),
        ("GET", "/api/webhooks/w", 200, 1),
        ("GET", "/api/webhooks", 200, 1),
        ("GET", "/admin/api/secret", 200, 1),
    ],
)
def test_an_answer_may_hold_a_secret_only_where_one_is_made(
    key: keys.MintedKey, method: str, path: str, status: int, leaks: int
) -> None:
    watch = Watch()
    watch.look_at_answer(answer(method, path, f'{{"key": "{key.text}"}}', status))
    assert len(watch.leaks) == leaks


def test_headers_are_looked_at_too(key: keys.MintedKey) -> None:
    watch = Watch()
    watch.look_at_answer(answer("GET", "/", "", **{"X-Request-Id": key.text}))
    assert len(watch.leaks) == 1


@pytest.mark.parametrize("name", ["gateway.db", "gateway.db-wal", "data.log"])
def test_databases_and_logs_are_looked_through(key: keys.MintedKey, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "deep"
    directory.mkdir()
    path = directory / name
    path.write_bytes(b"\0" * 5000 + key.text.encode() + b"\0" * 5000)
    watch = Watch()
    watch.look_at_files(tmp_path)
    path.unlink()  # the watch over this very run would find it
    assert watch.leaks == [f"key {key.public_id} in deep/{name}"]
