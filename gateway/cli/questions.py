"""Asking before what takes something away."""

import sys

import click

from gateway.cli.environment import Exit

_YES = frozenset({"y", "yes"})


def at_terminal() -> bool:
    """Whether somebody is there to read a question and to answer it."""
    # Python has no such streams at all where they were closed.
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirm(question: str) -> None:
    """Go on if the answer is yes; end the program if it is anything else, or if there is none.

    The question goes to stderr: stdout is for what the command gives out.
    """
    try:
        answer = _ask(question)
    except (KeyboardInterrupt, UnicodeDecodeError):
        answer = ""
    if not (at_terminal() and answer.endswith("\n")):
        click.echo(err=True)
    if answer.strip().lower() in _YES:
        return
    click.echo("Not confirmed, so nothing was changed; --yes does it without asking.", err=True)
    raise SystemExit(Exit.NOT_CONFIRMED)


def _ask(question: str) -> str:
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    return sys.stdin.readline() if sys.stdin is not None else ""
