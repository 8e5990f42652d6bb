"""Google's discovery document of Vertex AI (v1), out of its Python client's wheel, as JSON Schema."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

_PREFIX = "GoogleCloudAiplatformV1"


@cache
def _schemas() -> dict[str, Any]:
    spec = importlib.util.find_spec("googleapiclient")
    assert spec is not None
    assert spec.origin is not None
    document = Path(spec.origin).parent / "discovery_cache" / "documents" / "aiplatform.v1.json"
    schemas = json.loads(document.read_text(encoding="utf-8"))["schemas"]
    return {name: _closed(schema) for name, schema in schemas.items()}


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
