"""Terraform's configuration as data: read, held against the provider's schema and the canonical format."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

Json = dict[str, Any]

# What any resource may have, whoever provides it.
META_ARGUMENTS = {"count", "for_each", "depends_on", "lifecycle", "provider"}
_KINDS_OF_VALUE: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "bool": bool,
    "number": (int, float),
    "map": dict,
    "list": list,
}
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Block:
    """A block at the top of a file: `labels` are what stands between its kind and its brace."""

    kind: str
    labels: tuple[str, ...]
    body: Json

    @property
    def address(self) -> str:
        return ".".join((self.kind, *self.labels))


def read(text: str) -> list[Block]:
    options = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=False)
    parsed = hcl2.loads(text, serialization_options=options)
    return [
        Block(kind, labels, body)
        for kind, found in parsed.items()
        if not kind.startswith("__")
        for item in found
        for labels, body in _labelled(item)
    ]


def read_folder(folder: Path) -> list[Block]:
    return [block for path in sorted(folder.glob("*.tf")) for block in read(path.read_text())]


def _labelled(item: Json, labels: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Labels are keys with their quotes; what a block holds has none."""
    inner = [(key, value) for key, value in item.items() if key.startswith('"')]
    if not inner:
        yield labels, {key: value for key, value in item.items() if key != "__is_block__"}
    for key, value in inner:
        yield from _labelled(value, (*labels, key.strip('"')))


# The provider's schema


def faults(block: Block, schema: Json) -> list[str]:
    """What the schema has against a resource or a data source of Google's."""
    described = schema.get(block.kind, {}).get(block.labels[0])
    if described is None:
        return [f"{block.address}: there is no {block.labels[0]}"]
    body = {name: value for name, value in block.body.items() if name not in META_ARGUMENTS}
    return list(_faults(body, described["arguments"], block.address))


def _faults(body: Json, arguments: Json, place: str) -> Iterator[str]:
    blocks, values = _parts(body)
    for name in (name for name, argument in arguments.items() if argument.get("required")):
        if name not in blocks and name not in values:
            yield f"{place}: {name} is missing"
    for name, value in values.items():
        argument = arguments.get(name)
        if argument is None:
            yield f"{place}: there is no argument {name}"
        elif "block" in argument:
            yield f"{place}: {name} is a block"
        elif _is_literal(value) and not isinstance(value, _KINDS_OF_VALUE[argument["type"]]):
            yield f"{place}: {name} is no {argument['type']}"
    for name, bodies in blocks.items():
        argument = arguments.get(name)
        if argument is None or "block" not in argument:
            yield f"{place}: there is no block {name}"
            continue
        for inner in bodies:
            yield from _faults(inner, argument["block"], f"{place}.{name}")


def _parts(body: Json) -> tuple[dict[str, list[Json]], Json]:
    """Blocks and values of a block; a dynamic block is what it makes."""
    blocks: dict[str, list[Json]] = {}
    values: Json = {}
    for name, value in body.items():
        if name == "dynamic":
            for (made,), dynamic in (found for item in value for found in _labelled(item)):
                blocks.setdefault(made, []).extend(dynamic["content"])
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "__is_block__" in value[0]:
            blocks.setdefault(name, []).extend(value)
        elif name != "__is_block__":
            values[name] = value
    return blocks, values


def _is_literal(value: Any) -> bool:
    return not (isinstance(value, str) and value.startswith("${"))


# References

_REFERENCE = re.compile(
    r"(?<![\w.\"])(?:(data\.)?(google_\w+)\.(\w+)(?:\[[^]]*\])?(?:\.(\w+))?|(var|local)\.(\w+))"
)
_COMMENT = re.compile(r"(?m)(?:^|\s)#.*$")
_PLAIN_TEXT = re.compile(r'"(?:[^"\\$]|\\.|\$(?!\{))*"')


def dangling(text: str, blocks: list[Block], schema: Json) -> list[str]:
    """References in `text` to what `blocks` do not declare, or what the provider does not tell."""
    declared = {block.address for block in blocks}
    known = {f"local.{name}" for block in blocks if block.kind == "locals" for name in block.body}
    known |= {f"var.{block.labels[0]}" for block in blocks if block.kind == "variable"}
    found = []
    for match in _REFERENCE.finditer(_PLAIN_TEXT.sub('""', _COMMENT.sub("", text))):
        data, kind, name, attribute, scope, short = match.groups()
        if scope is not None:
            found += [] if f"{scope}.{short}" in known else [match[0]]
            continue
        section = "data" if data else "resource"
        told = schema[section].get(kind, {"arguments": {}, "told": []})
        unknown = attribute is not None and attribute not in {*told["told"], *told["arguments"]}
        if f"{section}.{kind}.{name}" not in declared or unknown:
            found.append(match[0])
    return found


# The canonical format

_ASSIGNMENT = re.compile(r'^ *(?P<name>[\w-]+|"[^"]*")(?P<gap> +)= (?! )')


def untidy(text: str) -> list[str]:
    """Lines that `terraform fmt` would write differently: indentation, equals signs in a column, blanks."""
    found = [] if text.endswith("\n") and not text.endswith("\n\n") else ["the end of the file"]
    depth = 0
    group: list[re.Match[str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        opened, closed, leading = _brackets(line)
        if line != line.rstrip() or "\t" in line or (line and _indent(line) != 2 * (depth - leading)):
            found.append(f"line {number}: {line}")
        # Brackets that open on one line and close on one are indented once.
        depth += (opened > closed) - (closed > opened)
        assignment = _ASSIGNMENT.match(line)
        if assignment is None or opened != closed:
            # A value of several lines stands for itself.
            found += _ragged(group) + _ragged([assignment] if assignment else [])
            group = []
        else:
            group.append(assignment)
    return found + _ragged(group)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _brackets(line: str) -> tuple[int, int, int]:
    """How many open and close, and whether the line begins with one that closes."""
    code = _COMMENT.sub("", re.sub(r'"(?:[^"\\]|\\.)*"', '""', line))
    opened, closed = (sum(code.count(bracket) for bracket in kind) for kind in (_OPENING, _CLOSING))
    return opened, closed, int(code.lstrip()[:1] in tuple(_CLOSING))


def _ragged(group: list[re.Match[str]]) -> list[str]:
    widest = max((len(item["name"]) for item in group), default=0)
    return [item.string for item in group if len(item["name"]) + len(item["gap"]) != widest + 1]
