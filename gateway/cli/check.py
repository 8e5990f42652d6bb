"""``gateway check``."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from gateway.bootstrap.checkup import check_up
from gateway.cli import options
from gateway.cli.environment import Exit, read_settings, run
from gateway.cli.tables import print_json
from gateway.findings import Finding, Outcome

_COLOURS = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red"}
_WIDTH = max(map(len, Outcome))


@click.command("check")
@options.as_json
def command(*, as_json: bool) -> None:
    findings = run(check_up(read_settings()))
    is_well = all(finding.outcome is not Outcome.FAILED for finding in findings)
    if as_json:
        print_json({"ok": is_well, "checks": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    raise SystemExit(0 if is_well else Exit.FAILED)


def _print(findings: Sequence[Finding]) -> None:
    """A line each: how it went, what it is about, what was tried, what came of it, what to do."""
    for each in findings:
        outcome = click.style(each.outcome.ljust(_WIDTH), fg=_COLOURS[each.outcome])
        said = f"{each.check}: {each.tried}: {each.found.rstrip('.')}. {each.advice}"
        # What others say may have several lines.
        click.echo(f"{outcome}  {' '.join(said.split())}")
