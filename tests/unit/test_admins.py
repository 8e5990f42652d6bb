"""Who opens the admin API: tokens that are known by their hashes alone."""

import hashlib
import hmac

import pytest

from gateway.accounts.admins import AdminTokens

OLD, NEW = "o" * 32, "n" * 32


def test_each_of_several_tokens_has_a_name_of_its_own() -> None:
    """While one replaces the other both work, and the audit log can tell them apart."""
    admins = AdminTokens([OLD, NEW])
    for token in (OLD, NEW):
        assert admins.actor(token) == f"admin:{hashlib.sha256(token.encode()).hexdigest()[:8]}"
    assert admins.actor(OLD) != admins.actor(NEW)


@pytest.mark.parametrize("presented", ["", OLD[:-1], OLD + "o", OLD.upper(), f"{OLD},{NEW}", "é"])
def test_nothing_else_is_a_token(presented: str) -> None:
    assert AdminTokens([OLD, NEW]).actor(presented) is None


def test_without_tokens_nobody_is_an_administrator() -> None:
    assert not AdminTokens([])
    assert AdminTokens([OLD])
    assert AdminTokens([]).actor("") is None


def test_tokens_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    admins = AdminTokens([OLD])
    assert OLD not in repr(vars(admins))


def test_every_token_is_compared_with_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes must not tell how many there are before it."""
    compared: list[bytes] = []

    def count(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", count)
    admins = AdminTokens([OLD, NEW, "x" * 32])
    for presented in (OLD, NEW, "nobody's"):
        compared.clear()
        admins.actor(presented)
        assert len(compared) == 3
