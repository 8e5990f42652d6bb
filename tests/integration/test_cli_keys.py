"""gateway key: every command as people and as programs see it."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from gateway.accounts import keys
from gateway.bootstrap.services import SystemClock
from tests.shell import TenantShell

NOW_MS = 1_800_000_000_000
NOW = "2027-01-15T08:00:00.000Z"

# Each term as it is said, the field that it sets, and the value that it gives it.
TERMS = [
    (("--owner", "ada"), "owner", "ada"),
    (("--tag", "web", "--tag", "night", "--tag", "web"), "tags", ["web", "night"]),
    (("--scope", "read"), "scopes", ["read"]),
    (("--scope", "read", "--scope", "generate"), "scopes", ["generate", "read"]),
    (("--model", "musicgen"), "allowed_models", ["musicgen"]),
    (("--rpm", "5"), "rpm", 5),
    (("--max-queued", "7"), "max_queued", 7),
    (("--expires-in", "90d"), "expires_at", "2027-04-15T08:00:00.000Z"),
    (("--expires-at", "2027-01-31T18:00:00.5+01:00"), "expires_at", "2027-01-31T17:00:00.500Z"),
]
ALL_TERMS = [word for words, _, _ in TERMS[:-1] for word in words]
LIFTED = [
    ("--owner", "", {"owner": ""}),
    ("--tag", "none", {"tags": []}),
    ("--model", "none", {"allowed_models": None}),
    ("--rpm", "none", {"rpm": None}),
    ("--max-queued", "none", {"max_queued": None}),
    ("--expires-in", "none", {"expires_at": None}),
    ("--expires-at", "none", {"expires_at": None}),
]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "now_ms", lambda _: NOW_MS)


def set_clock(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    monkeypatch.setattr(SystemClock, "now_ms", lambda _: NOW_MS + round(hours * 3_600_000))


# create and update


@pytest.mark.parametrize(("words", "field", "value"), TERMS)
def test_a_term_means_the_same_to_create_and_to_update(
    acme: TenantShell, words: Sequence[str], field: str, value: object
) -> None:
    made = acme.json("key", "create", "--tenant", acme.tenant, *words)
    key_id = acme.key()
    before = acme.json("key", "show", key_id)
    changed = acme.json("key", "update", key_id, *words)
    assert made[field] == changed[field] == value
    assert changed == before | {field: value} == acme.json("key", "show", key_id)


@pytest.mark.parametrize(("option", "value", "change"), LIFTED)
def test_a_term_is_lifted_and_the_rest_stays(
    acme: TenantShell, option: str, value: str, change: dict[str, object]
) -> None:
    key_id = acme.key(*ALL_TERMS)
    before = acme.json("key", "show", key_id)
    assert acme.json("key", "update", key_id, option, value) == before | change


def test_a_key_is_renamed_and_that_is_said(acme: TenantShell) -> None:
    key_id = acme.key()
    said = acme.done("key", "update", key_id, "--name", "laptop")
    assert said == f"Key {key_id} (laptop, of {acme.tenant}) is updated.\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Nothing to change; name what with an option."),
        (["--scope", "none"], "'none' is not one of 'generate', 'read'"),
        (["--model", "lyria-9"], "'lyria-9' is not one of"),
        (["--tag", "none", "--tag", "web"], "none cannot stand beside other values"),
        (["--rpm", "0"], "--rpm"),
        (["--expires-in", "soon"], "'soon' is not a duration like 90s, 15m, 12h or 30d."),
        (["--expires-at", "2027-01-31"], "'2027-01-31' is not a time like 2027-01-31T18:00:00Z"),
        (["--expires-in", "1d", "--expires-at", NOW], "Say --expires-in or --expires-at, not both."),
        (["--expires-in", "none", "--expires-at", "none"], "Say --expires-in or --expires-at, not both."),
    ],
)
def test_wrong_terms_are_wrong_usage(acme: TenantShell, words: Sequence[str], complaint: str) -> None:
    result = acme.run("key", "update", acme.key(), *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--name", ""], "--name: must have 1 to 100 printable characters."),
        (["--owner", "a\tb"], "--owner: must have at most 100 printable characters."),
        (["--tag", ""], "--tag: must each have 1 to 50 printable characters."),
        (["--rpm", "1000001"], "--rpm: must be 1 to 1000000."),
        (["--rpm", "31"], "--rpm: must be at most its tenant's, 30."),
        (["--max-queued", "21"], "--max-queued: must be at most its tenant's, 20."),
        (["--model", "musicgen"], "--model: 'musicgen' is not one of its tenant's."),
        (["--expires-in", "0s"], "--expires-in: must be in the future."),
        (["--expires-at", "2027-01-15T07:59:59Z"], "--expires-at: must be in the future."),
    ],
)
@pytest.mark.parametrize("command", ["create", "update"])
def test_terms_that_will_not_do_are_named_as_they_were_said(
    acme: TenantShell, command: str, words: Sequence[str], complaint: str
) -> None:
    acme.done("tenant", "update", acme.tenant, "--rpm", "30", "--max-queued", "20", "--model", "lyria-002")
    key_id = acme.key()
    which = ["--tenant", acme.tenant] if command == "create" else [key_id]
    result = acme.run("key", command, *which, *words)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {complaint}\n")


# list


def test_keys_are_listed_in_a_state(acme: TenantShell, monkeypatch: pytest.MonkeyPatch) -> None:
    keys_by_state = {
        "active": acme.key(),
        "disabled": acme.key(),
        "expired": acme.key("--expires-in", "1h"),
        "revoked": acme.key(),
    }
    acme.done("key", "disable", keys_by_state["disabled"])
    acme.done("key", "revoke", keys_by_state["revoked"])
    set_clock(monkeypatch, hours=1)
    for state, key_id in keys_by_state.items():
        (found,) = acme.json("key", "list", "--state", state)
        assert (found["id"], found["state"]) == (key_id, state)
        heading, row = acme.done("key", "list", "--state", state).splitlines()
        assert row[heading.index("STATE") :].split()[0] == state
    assert len(acme.json("key", "list")) == 4


def test_a_list_tells_when_a_key_ends_and_that_it_was_never_used(acme: TenantShell) -> None:
    key_id = acme.key("--name", "laptop", "--rpm", "9", "--expires-in", "12h")
    heading, row = acme.done("key", "list", "--tenant", acme.tenant).splitlines()
    expected = [key_id, acme.tenant, "laptop", "live", "active", "9"]
    assert row.split() == [*expected, "2027-01-15T08:00:00Z", "2027-01-15T20:00:00Z"]
    assert heading.endswith("EXPIRES               LAST USED")


@pytest.mark.parametrize("words", [("--state", "lost"), ("--state",)])
def test_a_state_that_there_is_not_is_wrong_usage(acme: TenantShell, words: Sequence[str]) -> None:
    assert acme.run("key", "list", *words).exit_code == 2


# show


def test_a_key_is_shown_to_people(acme: TenantShell) -> None:
    key_id = acme.key("--name", "laptop", *ALL_TERMS)
    acme.done("key", "disable", key_id)
    shown = dict(
        re.split(r":\s+", line, maxsplit=1) for line in acme.done("key", "show", key_id).splitlines()
    )
    assert shown.pop("Created by").startswith("cli:")
    assert shown == {
        "ID": key_id,
        "Tenant": acme.tenant,
        "Name": "laptop",
        "Mode": "live",
        "State": "disabled",
        "Owner": "ada",
        "Tags": "web, night",
        "Scopes": "generate, read",
        "Models": "musicgen",
        "Requests a minute": "5",
        "Waiting": "7",
        "Created": "2027-01-15T08:00:00Z",
        "Expires": "2027-04-15T08:00:00Z",
        "Disabled": "2027-01-15T08:00:00Z",
        "Last used": "never",
    }


def test_a_key_without_terms_shows_what_that_means(acme: TenantShell) -> None:
    shown = acme.done("key", "show", acme.key())
    for name, value in {
        "Requests a minute": "GATEWAY_DEFAULT_RPM",
        "Waiting": "as its tenant",
        "Models": "as its tenant",
        "Expires": "never",
    }.items():
        assert re.search(rf"^{name}: +{value}$", shown, re.MULTILINE)
    assert "Owner" not in shown


# disable, enable, revoke


def test_a_key_is_disabled_and_enabled(acme: TenantShell) -> None:
    key_id = acme.key()
    assert acme.done("key", "disable", key_id) == f"Key {key_id} (key, of {acme.tenant}) is disabled.\n"
    disabled = acme.json("key", "disable", key_id)
    assert (disabled["state"], disabled["disabled_at"]) == ("disabled", NOW)
    assert acme.done("key", "enable", key_id) == f"Key {key_id} (key, of {acme.tenant}) is enabled.\n"
    enabled = acme.json("key", "enable", key_id)
    assert (enabled["state"], enabled["disabled_at"]) == ("active", None)


def test_a_key_is_revoked_for_programs(acme: TenantShell) -> None:
    key_id = acme.key()
    revoked = acme.json("key", "revoke", key_id)
    assert (revoked["state"], revoked["revoked_at"]) == ("revoked", NOW)
    assert acme.json("key", "revoke", key_id) == revoked


# rotate


def test_a_new_text_is_alone_on_stdout_so_that_it_can_be_piped(acme: TenantShell) -> None:
    key_id = acme.key()
    result = acme.run("key", "rotate", key_id)
    presented = keys.parse(result.stdout.removesuffix("\n"))
    assert presented is not None
    assert presented.public_id == key_id
    assert result.stderr == (
        f"This is key {key_id}. It is shown only now: keep it safe.\n"
        "The text before it works until 2027-01-16T08:00:00Z.\n"
    )


@pytest.mark.parametrize(
    ("overlap", "told"),
    [
        ("90s", "works until 2027-01-15T08:01:30Z"),
        ("30d", "works until 2027-02-14T08:00:00Z"),
        ("0s", "works no more"),
    ],
)
def test_it_is_said_until_when_the_old_text_works(acme: TenantShell, overlap: str, told: str) -> None:
    result = acme.run("key", "rotate", acme.key(), "--overlap", overlap)
    assert result.exit_code == 0
    assert result.stderr.endswith(f"The text before it {told}.\n")


def test_a_key_is_rotated_for_programs(acme: TenantShell) -> None:
    key_id = acme.key()
    rotated = acme.json("key", "rotate", key_id, "--overlap", "1h")
    presented = keys.parse(rotated.pop("key"))
    assert presented is not None
    old_until = datetime.fromisoformat(rotated.pop("old_until"))
    assert old_until - datetime.fromisoformat(NOW) == timedelta(hours=1)
    assert rotated["rotated_at"] == NOW
    assert rotated == acme.json("key", "show", key_id)


def test_a_rotation_with_a_name_can_be_repeated(acme: TenantShell, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id = acme.key()
    named = ("key", "rotate", key_id, "--overlap", "2h", "--idempotency-key")
    first = acme.run(*named, "march")
    set_clock(monkeypatch, hours=1)
    again = acme.run(*named, "march")
    assert (again.stdout, again.stderr) == (first.stdout, first.stderr)
    set_clock(monkeypatch, hours=3)
    assert acme.run(*named, "march").stderr.endswith("The text before it works no more.\n")
    other = acme.run(*named, "april")
    assert other.stdout != first.stdout
    late = acme.run(*named, "march")
    assert late.exit_code == 1
    assert (
        late.stderr == "error: Another rotation came after the one of this name; rotate under a new name.\n"
    )


def test_a_rotation_without_a_name_cannot(acme: TenantShell) -> None:
    key_id = acme.key()
    assert acme.run("key", "rotate", key_id).stdout != acme.run("key", "rotate", key_id).stdout


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--overlap", "1"], 2, "'1' is not a duration like 90s, 15m, 12h or 30d."),
        (["--overlap", "31d"], 1, "error: --overlap: must be 0 to 2592000 seconds."),
        (["--idempotency-key", ""], 1, "error: --idempotency-key: has 1 to 255 characters."),
    ],
)
def test_a_rotation_that_will_not_do_is_told(
    acme: TenantShell, words: Sequence[str], code: int, complaint: str
) -> None:
    result = acme.run("key", "rotate", acme.key(), *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr


# What cannot be done


@pytest.mark.parametrize("words", [("update", "--rpm", "1"), ("disable",), ("enable",)])
def test_what_was_revoked_stays_as_it_was(acme: TenantShell, words: Sequence[str]) -> None:
    key_id = acme.key()
    acme.done("key", "revoke", key_id)
    result = acme.run("key", words[0], key_id, *words[1:])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: Key {key_id} was revoked for good; create another instead.\n"


def test_what_was_revoked_is_not_rotated(acme: TenantShell) -> None:
    key_id = acme.key()
    acme.done("key", "revoke", key_id)
    result = acme.run("key", "rotate", key_id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: Key {key_id} is revoked; create another instead.\n"


@pytest.mark.parametrize(
    "words", [("show",), ("update", "--rpm", "1"), ("rotate",), ("disable",), ("enable",), ("revoke",)]
)
def test_a_key_that_is_not_there_is_told_in_a_line(acme: TenantShell, words: Sequence[str]) -> None:
    result = acme.run("key", words[0], "nobody", *words[1:])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: There is no key 'nobody'; `gateway key list` shows them.\n"


def test_keys_of_a_tenant_that_is_not_there_are_not_merely_none(acme: TenantShell) -> None:
    result = acme.run("key", "list", "--tenant", "ten_x")
    assert result.exit_code == 1
    assert result.stderr == "error: There is no tenant 'ten_x'; `gateway tenant list` shows them.\n"
