"""gateway tenant and gateway member: every command as people and as programs see it."""

import re
from collections.abc import Sequence

import pytest

from tests.shell import TenantShell

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ADA = "ada@example.com"

# Each term as it is said, the field that it sets, and the value that it gives it.
TERMS = [
    (("--rpm", "5"), "rpm", 5),
    (("--max-concurrent", "2"), "max_concurrent", 2),
    (("--max-queued", "7"), "max_queued", 7),
    (("--weight", "3"), "weight", 3),
    (("--zone", "Europe/Berlin"), "zone", "Europe/Berlin"),
    (("--price-multiplier", "1.25"), "price_ppm", 1_250_000),
    (("--model", "musicgen", "--model", "lyria-002"), "allowed_models", ["musicgen", "lyria-002"]),
    (("--format", "wav", "--format", "mp3", "--format", "wav"), "allowed_formats", ["wav", "mp3"]),
    (("--retention-days", "30"), "retention_days", 30),
    (("--start-within", "10m"), "start_within_s", 600),
    (("--warn-at", "90", "--warn-at", "50"), "warn_percents", [50, 90]),
]
ALL_TERMS = [word for words, _, _ in TERMS for word in words]
# What the word none makes of it.
LIFTED = [
    *((option, None) for option in ("--rpm", "--max-concurrent", "--max-queued", "--retention-days")),
    *((option, None) for option in ("--start-within", "--model", "--format")),
    ("--warn-at", []),
]
FIELDS = {words[0]: field for words, field, _ in TERMS}


# create and update


@pytest.mark.parametrize(("words", "field", "value"), TERMS)
def test_a_term_means_the_same_to_create_and_to_update(
    acme: TenantShell, words: Sequence[str], field: str, value: object
) -> None:
    made = acme.json("tenant", "create", "radio", *words)
    before = acme.json("tenant", "update", acme.tenant, "--name", "acme")
    changed = acme.json("tenant", "update", acme.tenant, *words)
    assert made[field] == changed[field] == value
    assert changed == before | {field: value}


@pytest.mark.parametrize(("option", "value"), LIFTED)
def test_none_lifts_a_term_and_leaves_the_rest(acme: TenantShell, option: str, value: object) -> None:
    before = acme.json("tenant", "update", acme.tenant, *ALL_TERMS)
    assert acme.json("tenant", "update", acme.tenant, option, "none") == before | {FIELDS[option]: value}


def test_a_tenant_can_be_created_with_what_is_so_at_first(acme: TenantShell) -> None:
    lifted = [word for option, _ in LIFTED if option != "--warn-at" for word in (option, "none")]
    made = acme.json("tenant", "create", "radio", *lifted)
    plain = acme.json("tenant", "create", "video")
    assert {**made, "id": 0, "name": "", "created_at": ""} == {**plain, "id": 0, "name": "", "created_at": ""}


def test_a_tenant_is_renamed(acme: TenantShell) -> None:
    assert acme.json("tenant", "update", acme.tenant, "--name", "Acme Radio")["name"] == "Acme Radio"


def test_an_update_says_that_it_was_made(acme: TenantShell) -> None:
    assert acme.done("tenant", "update", acme.tenant, "--rpm", "5") == f"acme ({acme.tenant}) is updated.\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Nothing to change; name what with an option."),
        (["--rpm", "0"], "--rpm"),
        (["--rpm", "many"], "--rpm"),
        (["--weight", "none"], "--weight"),
        (["--retention-days", "-1"], "--retention-days"),
        (["--start-within", "soon"], "'soon' is not a duration"),
        (["--model", "lyria-9"], "'lyria-9' is not one of 'musicgen', 'lyria-3-clip-preview'"),
        (["--format", "aac"], "'aac' is not one of 'wav', 'flac', 'mp3', 'ogg', 'opus'"),
        (["--warn-at", "0"], "--warn-at"),
        (["--warn-at", "101"], "--warn-at"),
        (["--model", "none", "--model", "musicgen"], "none cannot stand beside other values"),
        (["--price-multiplier", "none"], "--price-multiplier"),
    ],
)
def test_wrong_terms_are_wrong_usage(acme: TenantShell, words: Sequence[str], complaint: str) -> None:
    result = acme.run("tenant", "update", acme.tenant, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--rpm", "1000001"], "--rpm: must be 1 to 1000000."),
        (["--max-concurrent", "1000001"], "--max-concurrent: must be 1 to 1000000."),
        (["--max-queued", "1000001"], "--max-queued: must be 1 to 1000000."),
        (["--weight", "1000001"], "--weight: must be 1 to 1000000."),
        (["--retention-days", "36501"], "--retention-days: must be 1 to 36500."),
        (["--start-within", "4s"], "--start-within: must be 5 to 86400."),
        (["--zone", "Mars"], "--zone: 'Mars' is not a time zone; write one like Europe/Berlin."),
        (["--name", " "], "--name: must have 1 to 100 printable characters."),
        (
            ["--retention-days", "36501", "--weight", "2000000"],
            "--weight: must be 1 to 1000000. --retention-days: must be 1 to 36500.",
        ),
    ],
)
def test_terms_that_will_not_do_are_named_as_they_were_said(
    acme: TenantShell, words: Sequence[str], complaint: str
) -> None:
    result = acme.run("tenant", "update", acme.tenant, *words)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {complaint}\n")


# list


def test_tenants_are_found_by_a_part_of_their_name(acme: TenantShell) -> None:
    for name in ("Radio North", "radio 50%", "Video"):
        acme.done("tenant", "create", name)
    assert [t["name"] for t in acme.json("tenant", "list", "--name", "RADIO")] == ["Radio North", "radio 50%"]
    assert [t["name"] for t in acme.json("tenant", "list", "--name", "0%")] == ["radio 50%"]
    assert acme.json("tenant", "list", "--name", "nobody") == []
    _, row = acme.done("tenant", "list", "--name", "video").splitlines()
    assert "Video" in row


# show


def test_a_tenant_is_shown_to_people(acme: TenantShell) -> None:
    acme.done("tenant", "update", acme.tenant, *ALL_TERMS)
    acme.done("tenant", "budget", acme.tenant, "--month", "25")
    acme.done("member", "put", acme.tenant, ADA, "--role", "owner")
    acme.done("key", "disable", acme.key())
    acme.key()
    facts, budgets, members = acme.done("tenant", "show", acme.tenant).split("\n\n")
    shown = dict(re.split(r":\s+", line, maxsplit=1) for line in facts.splitlines())
    assert re.fullmatch(r"\S+T\S+Z", shown.pop("Created"))
    assert shown == {
        "ID": acme.tenant,
        "Name": "acme",
        "Status": "active",
        "Zone": "Europe/Berlin",
        "Price": "1.25 of list prices",
        "Requests a minute": "5",
        "Running at once": "2",
        "Waiting": "7",
        "Weight": "3",
        "Models": "musicgen, lyria-002",
        "Formats": "wav, mp3",
        "Tasks kept": "30 days",
        "Started within": "600 s",
        "Warned at": "50 %, 90 %",
        "Keys": "1 active of 2",
    }
    assert [line.split()[:5] for line in budgets.splitlines()][2] == [
        "month",
        "25.00",
        "0.00",
        "0.00",
        "25.00",
    ]
    assert [line.split()[:2] for line in members.splitlines()] == [["MEMBER", "ROLE"], [ADA, "owner"]]


def test_a_tenant_without_terms_shows_what_that_means(acme: TenantShell) -> None:
    acme.done("tenant", "update", acme.tenant, "--warn-at", "none")
    shown = acme.done("tenant", "show", acme.tenant)
    for name, value in {
        "Requests a minute": "unlimited",
        "Running at once": "unlimited",
        "Waiting": "GATEWAY_DEFAULT_MAX_QUEUED",
        "Models": "any",
        "Formats": "any",
        "Tasks kept": "for ever",
        "Started within": "GATEWAY_TASK_TIMEOUT_S",
        "Warned at": "never",
        "Keys": "0 active of 0",
    }.items():
        assert re.search(rf"^{name}: +{value}$", shown, re.MULTILINE)


def test_a_tenant_is_shown_to_programs_with_all_that_hangs_on_it(acme: TenantShell) -> None:
    acme.done("member", "put", acme.tenant, ADA, "--role", "owner")
    acme.done("key", "disable", acme.key())
    acme.key()
    (tenant,) = acme.json("tenant", "list")
    assert acme.json("tenant", "show", acme.tenant) == {
        **tenant,
        "budgets": acme.json("tenant", "budget", acme.tenant),
        "members": acme.json("member", "list", acme.tenant),
        "key_count": 2,
        "active_key_count": 1,
    }


def test_a_budget_below_what_is_used_leaves_nothing(acme: TenantShell) -> None:
    acme.done("ledger", "adjust", "--tenant", acme.tenant, "--usd", "2", "--reason", "x", "--yes")
    _, _, total = acme.json("tenant", "budget", acme.tenant, "--total", "1")
    assert total == {
        "window": "total",
        "limit_micros": 1_000_000,
        "spent_micros": 2_000_000,
        "held_micros": 0,
        "remaining_micros": 0,
        "resets_at": None,
    }


# suspend and activate


def test_a_tenant_is_suspended_and_activated(acme: TenantShell) -> None:
    suspended = acme.done("tenant", "suspend", acme.tenant, "--yes")
    assert suspended == f"acme ({acme.tenant}) is suspended.\n"
    assert acme.json("tenant", "suspend", acme.tenant, "--yes")["status"] == "suspended"
    assert acme.done("tenant", "activate", acme.tenant) == f"acme ({acme.tenant}) is active.\n"
    assert acme.json("tenant", "activate", acme.tenant) == acme.json("tenant", "list")[0]


# Members


def test_a_member_is_added_and_given_another_role(acme: TenantShell) -> None:
    added = acme.done("member", "put", acme.tenant, "Ada@Example.com", "--role", "viewer")
    assert added == f"{ADA} is viewer of {acme.tenant}.\n"
    changed = acme.json("member", "put", acme.tenant, ADA, "--role", "developer")
    assert MOMENT.fullmatch(changed["created_at"])
    assert changed == {
        "email": ADA,
        "role": "developer",
        "created_at": changed["created_at"],
    }
    assert acme.json("member", "list", acme.tenant) == [changed]
    heading, row = acme.done("member", "list", acme.tenant).splitlines()
    assert heading.split() == ["MEMBER", "ROLE", "SINCE"]
    assert row.split() == [ADA, "developer", changed["created_at"][:19] + "Z"]


def test_a_member_is_removed(acme: TenantShell) -> None:
    for email in (ADA, "bob@example.com"):
        acme.done("member", "put", acme.tenant, email, "--role", "owner")
    removed = acme.done("member", "remove", acme.tenant, ADA, "--yes")
    assert removed == f"{ADA} is no member of {acme.tenant} any more.\n"
    as_json = acme.json("member", "remove", acme.tenant, "BOB@example.com", "--yes")
    assert as_json == {"tenant_id": acme.tenant, "email": "BOB@example.com"}
    assert acme.json("member", "list", acme.tenant) == []


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["put", "ACME", ADA], 2, "Missing option '--role'"),
        (["put", "ACME", ADA, "--role", "god"], 2, "'god' is not one of 'owner', 'developer', 'viewer'"),
        (["put", "ACME", "ada", "--role", "owner"], 1, "error: email: 'ada' is not an address"),
        (["remove", "ACME", ADA, "--yes"], 1, f"error: {ADA} is not a member of this tenant."),
        (["put", "ten_x", ADA, "--role", "owner"], 1, "error: There is no tenant 'ten_x'"),
        (["remove", "ten_x", ADA, "--yes"], 1, "error: There is no tenant 'ten_x'"),
        (["list", "ten_x"], 1, "error: There is no tenant 'ten_x'"),
    ],
)
def test_what_cannot_be_done_with_members_is_told(
    acme: TenantShell, words: Sequence[str], code: int, complaint: str
) -> None:
    result = acme.run("member", *(acme.tenant if word == "ACME" else word for word in words))
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("show", "ten_x"),
        ("update", "ten_x", "--rpm", "1"),
        ("suspend", "ten_x", "--yes"),
        ("activate", "ten_x"),
        ("budget", "ten_x"),
    ],
)
def test_a_tenant_that_is_not_there_is_told_in_a_line(acme: TenantShell, words: Sequence[str]) -> None:
    result = acme.run("tenant", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: There is no tenant 'ten_x'; `gateway tenant list` shows them.\n"


def test_a_name_that_is_taken_is_told(acme: TenantShell) -> None:
    radio = acme.json("tenant", "create", "radio")["id"]
    result = acme.run("tenant", "update", radio, "--name", "acme")
    assert result.exit_code == 1
    assert result.stderr == "error: There is a tenant named 'acme' already; choose another name.\n"
