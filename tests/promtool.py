"""Prometheus's own judge of rules and expressions, of Debian's package."""

import re
import shutil
import subprocess
from pathlib import Path

import yaml

_WITHIN_S = 60.0


def why_unavailable() -> str | None:
    """What keeps this machine from running them; None when nothing does."""
    if shutil.which("promtool") is None or shutil.which("prometheus") is None:
        return "these tests need promtool and prometheus: make setup-dev installs them on Debian"
    return None


def promtool(*arguments: str, cwd: Path) -> list[str]:
    """What it has against something, line by line; nothing when it has nothing."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=_WITHIN_S * 2
    )
    if done.returncode == 0:
        return []
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def faults_of(expressions: list[str], directory: Path) -> list[str]:
    """What promtool has against expressions, each wrapped in a rule."""
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    path = directory / "wrapped.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "wrapped", "rules": rules}]}))
    return promtool("check", "rules", path.name, cwd=directory)


def as_asked(query: str) -> str:
    """A query of the dashboard as Grafana sends it, with everything chosen."""
    return re.sub(r"\$\w+", ".+", query.replace("$__rate_interval", "5m"))


_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*(\d+)")
_NAME = re.compile(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"}


class Expression:
    """The names in an expression that promtool has parsed before.

    ``metrics`` are those of series, ``groupings`` labels of ``by`` and the like, ``matchers`` all
    ``(metric, label, operator, text)``.
    """

    def __init__(self, text: str) -> None:
        texts: list[str] = []

        def put_aside(found: re.Match[str]) -> str:
            texts.append(found[0][1:-1])
            return str(len(texts) - 1)

        bare = re.sub(r"\[[^\]]*\]", "", _TEXT.sub(put_aside, text))
        self.groupings = {name.strip() for each in _GROUPING.findall(bare) for name in each.split(",")}
        bare = _GROUPING.sub("", bare)
        self.matchers = [
            (metric, label, operator, texts[int(number)])
            for metric, inside in _SELECTOR.findall(bare)
            for label, operator, number in _MATCHER.findall(inside)
        ]
        names = _NAME.findall(re.sub(r"\{[^}]*\}", "", bare))
        self.metrics = {name for name in names if name.lower() not in _WORDS}
