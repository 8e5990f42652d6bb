"""A pytest plugin: in continuous integration a test that did not run is a failed run.

Loaded with ``-p tests.no_skips``; active where CI is ``true``. Counts skipped tests and modules, and tests
that were expected to fail and passed. With pytest-xdist it counts on the controller, which hears of every
report.
"""

import os
from dataclasses import dataclass, field

import pytest

PLUGIN_NAME = "no-skips"


def pytest_configure(config: pytest.Config) -> None:
    in_ci = os.environ.get("CI") == "true"  # noqa: TID251 - says where the tests run, configures nothing of ours
    if in_ci and not hasattr(config, "workerinput"):
        config.pluginmanager.register(NoSkips(), PLUGIN_NAME)


@dataclass(slots=True, eq=False)  # pytest keeps plugins in sets
class NoSkips:
    not_run: list[str] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        expected_to_fail = hasattr(report, "wasxfail")
        if report.skipped and not expected_to_fail:
            self.not_run.append(f"{report.nodeid} was skipped")
        elif report.passed and expected_to_fail:
            self.not_run.append(f"{report.nodeid} was expected to fail and passed")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.not_run.append(f"{report.nodeid} was skipped as a whole")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.not_run and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.not_run:
            terminalreporter.write_line(f"FAILED {line}: in continuous integration every test runs", red=True)
