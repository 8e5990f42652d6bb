"""openapi.yaml as pages can show it: operations by tag, with the fields of what they take and answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_METHODS = ("get", "post", "put", "patch", "delete")
_JSON = "application/json"

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FieldLine:
    """A parameter, or a field of a body. ``where`` is path, query, header or body."""

    name: str
    where: str
    kind: str
    required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of an address. ``answers`` are statuses, and what each means."""

    id: str
    method: str
    path: str
    summary: str
    text: str
    fields: tuple[FieldLine, ...]
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The operations of a tag."""

    name: str
    text: str
    operations: tuple[Operation, ...]


def read_reference(specification: bytes) -> tuple[Section, ...]:
    document: Node = yaml.load(specification, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    operations = [
        (operation["tags"][0], _operation(document, path, method, operation))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    ]
    return tuple(
        Section(
            tag["name"],
            tag.get("description", ""),
            tuple(each for name, each in operations if name == tag["name"]),
        )
        for tag in document["tags"]
    )


def _operation(document: Node, path: str, method: str, operation: Node) -> Operation:
    shared = document["paths"][path].get("parameters", [])
    parameters = [_resolve(document, each) for each in (*shared, *operation.get("parameters", []))]
    answers = {
        status: _resolve(document, each).get("description", "")
        for status, each in operation["responses"].items()
    }
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        text=operation.get("description", ""),
        fields=(*(_parameter(document, each) for each in parameters), *_body(document, operation)),
        answers=tuple((status, text.strip()) for status, text in answers.items()),
    )


def _parameter(document: Node, parameter: Node) -> FieldLine:
    return FieldLine(
        parameter["name"],
        parameter["in"],
        _kind(document, parameter.get("schema", {})),
        bool(parameter.get("required")),
        parameter.get("description", ""),
    )


def _body(document: Node, operation: Node) -> Iterator[FieldLine]:
    body = _resolve(document, operation.get("requestBody", {}))
    schema = _resolve(document, body.get("content", {}).get(_JSON, {}).get("schema", {}))
    for name, each in schema.get("properties", {}).items():
        field = _resolve(document, each)
        text = str(each.get("description") or field.get("description", ""))
        yield FieldLine(name, "body", _kind(document, each), name in schema.get("required", ()), text)


def _kind(document: Node, schema: Node) -> str:
    """A type in words: "integer, 1 to 300"; "string: wav, flac"."""
    found = _resolve(document, schema)
    options = [_resolve(document, each) for each in (*found.get("anyOf", ()), *found.get("oneOf", ()))]
    if options:
        return " or ".join(dict.fromkeys(_kind(document, each) for each in options))
    kind = found.get("type", "any")
    name = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "enum" in found:
        return f"{name}: {', '.join(map(str, found['enum']))}"
    if name == "array":
        return f"list of {_kind(document, found.get('items', {}))}"
    low, high = found.get("minimum"), found.get("maximum")
    return f"{name}, {low} to {high}" if low is not None and high is not None else name


def _resolve(document: Node, node: Node) -> Node:
    while "$ref" in node:
        target: Any = document
        for part in str(node["$ref"]).removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        node = target
    return node
