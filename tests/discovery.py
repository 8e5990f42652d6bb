"""Google's discovery documents, out of its Python client's wheel; that of Vertex AI (v1) as JSON Schema."""

import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

_PREFIX = "GoogleCloudAiplatformV1"


def document(api: str) -> dict[str, Any]:
    """Google's description of an API, such as `run.v1`."""
    spec = importlib.util.find_spec("googleapiclient")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "discovery_cache" / "documents" / f"{api}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def words(part: Any) -> Iterator[str]:
    """Every word that some field of a document may have."""
    if isinstance(part, dict):
        if isinstance(listed := part.get("enum"), list):
            yield from listed
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from words(inner)


@cache
def _schemas() -> dict[str, Any]:
    return {name: _closed(schema) for name, schema in document("aiplatform.v1")["schemas"].items()}


def faults(name: str, body: Any) -> list[str]:
    """What Google's schema of that name has against a body; names that it does not mention are faults too."""
    schema = {"$ref": f"#/schemas/{_PREFIX}{name}", "schemas": _schemas()}
    found = jsonschema.Draft202012Validator(schema).iter_errors(body)
    return [f"{error.json_path}: {error.message}" for error in found]


def values(name: str, field: str) -> list[str]:
    """The words that a field may have."""
    found: list[str] = _schemas()[_PREFIX + name]["properties"][field]["enum"]
    return found


def _closed(schema: Any) -> Any:
    """Google's `format`s are not JSON Schema's, and its type `any` means none is given."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(value) for key, value in schema.items() if key in {"type", "items", "enum"}}
    if found.get("type") == "any":
        del found["type"]
    if "$ref" in schema:
        found["$ref"] = f"#/schemas/{schema['$ref']}"
    if "properties" in schema:
        found["properties"] = {name: _closed(value) for name, value in schema["properties"].items()}
        found["additionalProperties"] = False
    elif "additionalProperties" in schema:
        found["additionalProperties"] = _closed(schema["additionalProperties"])
    return found
