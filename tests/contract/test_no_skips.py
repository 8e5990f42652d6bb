"""In continuous integration a test that did not run fails the run; elsewhere it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PASSING = "def test_passes(): pass\n"
FAILING_AS_EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_fails(): assert False\n"
NOT_RUN = {
    "skipped test": "import pytest\n@pytest.mark.skip(reason='x')\ndef test_skipped(): pass\n",
    "skipped module": "import pytest\npytest.importorskip('no_such_module')\n",
    "unexpected pass": "import pytest\n@pytest.mark.xfail\ndef test_passes_after_all(): pass\n",
}


@pytest.mark.parametrize("text", NOT_RUN.values(), ids=NOT_RUN)
def test_a_test_that_did_not_run_fails_the_run(tmp_path: Path, text: str) -> None:
    done = run(tmp_path, text, ci="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "in continuous integration every test runs" in done.stdout


def test_the_same_holds_with_workers(tmp_path: Path) -> None:
    done = run(tmp_path, *NOT_RUN.values(), "-pxdist", "-n1", ci="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert done.stdout.count("in continuous integration every test runs") == len(NOT_RUN)


@pytest.mark.parametrize("text", NOT_RUN.values(), ids=NOT_RUN)
def test_on_a_persons_machine_it_may_be_left_out(tmp_path: Path, text: str) -> None:
    assert run(tmp_path, text, ci="").returncode == pytest.ExitCode.OK


def test_a_failure_that_is_expected_is_no_skip(tmp_path: Path) -> None:
    assert run(tmp_path, FAILING_AS_EXPECTED, ci="true").returncode == pytest.ExitCode.OK


def test_closing_line_stays_last(tmp_path: Path) -> None:
    done = run(tmp_path, *NOT_RUN.values(), ci="true")
    assert "2 skipped" in done.stdout.splitlines()[-1]


def run(directory: Path, *texts: str, ci: str) -> "subprocess.CompletedProcess[str]":
    """pytest with the plugin on files of those texts, and one that passes; texts with a dash are options."""
    options = [text for text in texts if text.startswith("-")]
    (directory / "pytest.ini").write_text("[pytest]\n")
    for number, text in enumerate([PASSING, *(text for text in texts if text not in options)]):
        (directory / f"test_{number}.py").write_text(text)
    settings = {"CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-p", "no:cacheprovider", *options, "."],
        cwd=directory,
        env={**os.environ, **settings},  # noqa: TID251 - handed on, not read
        capture_output=True,
        text=True,
        check=False,
    )
