"""What takes something away asks first: who is asked, what counts as yes, and how it ends."""

import io
import sys
from collections.abc import Callable, Sequence

import pytest

from gateway.cli.questions import at_terminal, confirm
from tests.shell import CTRL_C, QUESTION, TenantShell

NOT_CONFIRMED = "Not confirmed, so nothing was changed; --yes does it without asking.\n"
Words = Callable[[TenantShell], Sequence[str]]


def suspend(acme: TenantShell) -> Sequence[str]:
    return ("tenant", "suspend", acme.tenant)


def remove(acme: TenantShell) -> Sequence[str]:
    acme.done("member", "put", acme.tenant, "ada@example.com", "--role", "owner")
    return ("member", "remove", acme.tenant, "ada@example.com")


def adjust(acme: TenantShell) -> Sequence[str]:
    return ("ledger", "adjust", "--tenant", acme.tenant, "--usd", "1", "--reason", "x")


def revoke(acme: TenantShell) -> Sequence[str]:
    return ("key", "revoke", acme.key())


def rotate(acme: TenantShell) -> Sequence[str]:
    return ("key", "rotate", acme.key(), "--overlap", "0s")


ALWAYS = (suspend, remove, adjust)
AT_A_TERMINAL = (revoke, rotate)


def acts(acme: TenantShell) -> int:
    """How many entries the audit log has."""
    return len(acme.json("audit", "list"))


# Through pipes


@pytest.mark.parametrize("make_words", ALWAYS)
@pytest.mark.parametrize("answer", ["y\n", "YES\n", " yes \n", "y"])
def test_yes_goes_on(acme: TenantShell, make_words: Words, answer: str) -> None:
    words = make_words(acme)
    before = acts(acme)
    result = acme.run(*words, answer=answer)
    assert result.exit_code == 0
    assert result.stderr.endswith(QUESTION + "\n")
    assert QUESTION not in result.stdout
    assert acts(acme) == before + 1


@pytest.mark.parametrize("make_words", ALWAYS)
@pytest.mark.parametrize("answer", ["n\n", "\n", "maybe\n", "yn\n", ""])
def test_anything_else_and_nothing_at_all_changes_nothing(
    acme: TenantShell, make_words: Words, answer: str
) -> None:
    words = make_words(acme)
    before = acts(acme)
    result = acme.run(*words, answer=answer)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.endswith(QUESTION + "\n" + NOT_CONFIRMED)
    assert acts(acme) == before


@pytest.mark.parametrize("make_words", [*ALWAYS, *AT_A_TERMINAL])
def test_whoever_says_yes_beforehand_is_not_asked(acme: TenantShell, make_words: Words) -> None:
    words = make_words(acme)
    before = acts(acme)
    result = acme.run(*words, "--yes")
    assert result.exit_code == 0
    assert QUESTION not in result.stderr
    assert acts(acme) == before + 1


@pytest.mark.parametrize("make_words", AT_A_TERMINAL)
def test_what_scripts_have_always_called_does_not_ask_them(acme: TenantShell, make_words: Words) -> None:
    words = make_words(acme)
    before = acts(acme)
    result = acme.run(*words, answer="n\n")
    assert result.exit_code == 0
    assert QUESTION not in result.stderr
    assert acts(acme) == before + 1


def test_the_question_says_what_will_happen_to_whom(acme: TenantShell) -> None:
    asked = acme.run(*suspend(acme)).stderr
    assert asked.startswith(f"All keys of acme ({acme.tenant}) are refused new work at once. Suspend it?")
    asked = acme.run(*remove(acme)).stderr
    assert asked.startswith(
        f"ada@example.com can then do nothing in acme ({acme.tenant}) any more. Remove them?"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("tenant", "suspend", "ten_x"),
        ("member", "remove", "ten_x", "ada@example.com"),
        ("ledger", "adjust", "--tenant", "ten_x", "--usd", "1", "--reason", "x"),
    ],
)
def test_there_is_no_question_about_what_is_not_there(acme: TenantShell, words: Sequence[str]) -> None:
    result = acme.run(*words, answer="y\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: There is no tenant 'ten_x'; `gateway tenant list` shows them.\n"


# At a terminal


@pytest.mark.parametrize("make_words", AT_A_TERMINAL)
def test_a_terminal_is_asked_and_yes_goes_on(acme: TenantShell, make_words: Words) -> None:
    words = make_words(acme)
    before = acts(acme)
    shown = acme.at_terminal(*words, answer="y\n")
    assert shown.exit_code == 0
    question, rest = shown.text.split("\n", maxsplit=1)
    assert question.startswith(f"Key {words[2]} (key, of {acme.tenant})")
    assert question.endswith(QUESTION + "y")
    assert words[2] in rest
    assert acts(acme) == before + 1


@pytest.mark.parametrize("make_words", AT_A_TERMINAL)
def test_a_terminal_that_says_no_changes_nothing(acme: TenantShell, make_words: Words) -> None:
    words = make_words(acme)
    before = acts(acme)
    shown = acme.at_terminal(*words, answer="n\n")
    assert shown.exit_code == 3
    assert shown.text.endswith(QUESTION + "n\n" + NOT_CONFIRMED)
    assert acts(acme) == before


def test_control_c_at_the_question_is_no(acme: TenantShell) -> None:
    words = revoke(acme)
    shown = acme.at_terminal(*words, answer=CTRL_C)
    assert shown.exit_code == 3
    assert shown.text.endswith("\n" + NOT_CONFIRMED)
    assert acme.json("key", "show", words[2])["state"] == "active"


def test_a_terminal_is_not_asked_for_what_takes_nothing_away(acme: TenantShell) -> None:
    shown = acme.at_terminal("key", "rotate", acme.key())
    assert shown.exit_code == 0
    assert QUESTION not in shown.text


def test_a_terminal_that_says_yes_beforehand_is_not_asked(acme: TenantShell) -> None:
    key_id = acme.key()
    assert acme.at_terminal("key", "revoke", key_id, "--yes").text == f"Revoked {key_id}.\n"


def test_there_is_no_question_at_a_terminal_about_a_key_that_is_not_there(acme: TenantShell) -> None:
    shown = acme.at_terminal("key", "revoke", "nobody")
    assert shown.exit_code == 1
    assert shown.text == "error: There is no key 'nobody'; `gateway key list` shows them.\n"


# The streams


class Stream(io.StringIO):
    def __init__(self, text: str = "", *, terminal: bool = True) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("stdin", "stderr", "expected"),
    [
        (Stream(), Stream(), True),
        (Stream(terminal=False), Stream(), False),
        # Nobody could see the question.
        (Stream(), Stream(terminal=False), False),
        (None, Stream(), False),
        (Stream(), None, False),
    ],
)
def test_a_terminal_is_where_a_question_can_be_seen_and_answered(
    monkeypatch: pytest.MonkeyPatch, stdin: Stream | None, stderr: Stream | None, expected: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stderr", stderr)
        found = at_terminal()
    assert found is expected


@pytest.mark.parametrize("stdin", [None, io.TextIOWrapper(io.BytesIO(b"\xff\n"), "utf-8")])
def test_no_stdin_and_an_answer_that_is_no_text_are_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdin: io.TextIOBase | None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as ended:
            confirm("Go on?")
    assert ended.value.code == 3
    assert capsys.readouterr().err == "Go on?" + QUESTION + "\n" + NOT_CONFIRMED
