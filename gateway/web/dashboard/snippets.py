"""A request as programs would send it, with the key left out: it is read from the environment."""

import json
import shlex
from collections.abc import Mapping
from typing import Any


def snippets(public_url: str, path: str, body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The same request for curl, Python and JavaScript: a title and a text of each."""
    url = f"{public_url}{path}"
    text = json.dumps(body, ensure_ascii=False, indent=2)
    return (
        ("curl", _curl(url, text)),
        ("Python", _python(url, body)),
        ("JavaScript", _javascript(url, text)),
    )


def _curl(url: str, text: str) -> str:
    return "\n".join(
        (
            f"curl -X POST {shlex.quote(url)} \\",
            '  -H "X-Api-Key: $API_KEY" \\',
            '  -H "Content-Type: application/json" \\',
            f"  -d {shlex.quote(text)}",
        )
    )


def _python(url: str, body: Mapping[str, Any]) -> str:
    fields = "".join(f"    {key!r}: {value!r},\n" for key, value in body.items())
    return (
        "import os\n\nimport requests\n\n"
        f"response = requests.post(\n    {url!r},\n"
        '    headers={"X-Api-Key": os.environ["API_KEY"]},\n'
        f"    json={{\n{_indented(fields)}    }},\n)\n"
        'response.raise_for_status()\nprint(response.json()["audio_url"])'
    )


def _javascript(url: str, text: str) -> str:
    return (
        f"const response = await fetch({json.dumps(url)}, {{\n"
        '  method: "POST",\n'
        '  headers: {"X-Api-Key": process.env.API_KEY, "Content-Type": "application/json"},\n'
        f"  body: JSON.stringify({_continued(text)}),\n}});\n"
        "if (!response.ok) throw new Error(await response.text());\n"
        "console.log((await response.json()).audio_url);"
    )


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _continued(text: str) -> str:
    return text.replace("\n", "\n  ")
