"""openapi.yaml as a judge: is this answer one that the document promises? Imports nothing of gateway.

specification = Specification.load()
specification.check(response)      # an httpx.Response that was read; AssertionError says what is wrong
"""

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

PATH = Path(__file__).resolve().parents[1] / "openapi.yaml"
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
_URI = "urn:openapi"
# What every answer may carry without its being part of the promise.
_UNREMARKABLE = frozenset(
    {
        "access-control-allow-origin",
        "cache-control",
        "connection",
        "content-length",
        "content-security-policy",
        "content-type",
        "date",
        "referrer-policy",
        "transfer-encoding",
        "x-content-type-options",
    }
)


@dataclass(frozen=True)
class Documented:
    """One documented response, and where in the document it stands (a JSON pointer, for references)."""

    pointer: str
    response: dict[str, Any]


class Specification:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        resource = Resource(contents=document, specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)

    @classmethod
    def load(cls) -> "Specification":
        return cls(yaml.safe_load(PATH.read_text()))

    def operations(self) -> set[tuple[str, str]]:
        """Every documented (path template, METHOD)."""
        return {
            (path, method.upper())
            for path, item in self.document["paths"].items()
            for method in METHODS
            if method in item
        }

    def resolve(self, value: Any, pointer: str) -> tuple[Any, str]:
        """Follow a reference, if it is one; the value and where it stands."""
        while isinstance(value, dict) and "$ref" in value and len(value) == 1:
            pointer = value["$ref"].removeprefix("#")
            value = self.at(pointer)
        return value, pointer

    def at(self, pointer: str) -> Any:
        value: Any = self.document
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            value = value[int(name)] if isinstance(value, list) else value[name]
        return value

    def validator(self, pointer: str) -> Draft202012Validator:
        """Of the schema that stands there."""
        return Draft202012Validator(
            {"$ref": f"{_URI}#{pointer}"},
            registry=self._registry,
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        )

    def documented(self, method: str, path: str, status: int) -> Documented:
        """What the document says of this answer; AssertionError when it says nothing."""
        template = self._template(path)
        if template is None:
            assert status == 404, f"{path} is not documented, and was answered with {status}"
            return self._component("RouteNotFound")
        item = self.document["paths"][template]
        name = method.lower()
        if name == "head" and "head" not in item:
            name = "get"
        if name not in item:
            assert status == 405, f"{method} {template} is not documented, and was answered with {status}"
            return self._component("MethodNotAllowed")
        answers = item[name]["responses"]
        assert str(status) in answers, f"{method} {template}: {status} is not among {sorted(answers)}"
        escaped = template.replace("~", "~0").replace("/", "~1")
        found, pointer = self.resolve(answers[str(status)], f"/paths/{escaped}/{name}/responses/{status}")
        return Documented(pointer, found)

    def check(self, response: httpx.Response) -> None:
        """AssertionError unless status, content type, headers and body are as documented."""
        request = response.request
        # As it was sent: a slash inside a part of the path is encoded.
        path = request.url.raw_path.decode().partition("?")[0]
        documented = self.documented(request.method, path, response.status_code)
        self._check_headers(response, documented)
        # A body on HEAD is the server's to drop; an in-process client sees it all the same.
        if request.method != "HEAD":
            self._check_body(response, documented)

    def _template(self, path: str) -> str | None:
        for template in self.document["paths"]:
            hole = ".*" if template.startswith("/files/") else "[^/]+"
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", hole, re.escape(template)), path, re.DOTALL):
                return str(template)
        return None

    def _component(self, name: str) -> Documented:
        pointer = f"/components/responses/{name}"
        return Documented(pointer, self.at(pointer))

    def _check_headers(self, response: httpx.Response, documented: Documented) -> None:
        named = documented.response.get("headers", {})
        for name, reference in named.items():
            header, pointer = self.resolve(reference, f"{documented.pointer}/headers/{name}")
            text = response.headers.get(name)
            if text is None:
                assert not header.get("required"), f"{name} is missing from {_told(response)}"
                continue
            value = int(text) if header["schema"]["type"] == "integer" else text
            self._validate(f"{pointer}/schema", value, f"header {name} of {_told(response)}")
        undocumented = set(response.headers) - {name.lower() for name in named} - _UNREMARKABLE
        assert not undocumented, f"undocumented headers {undocumented} in {_told(response)}"

    def _check_body(self, response: httpx.Response, documented: Documented) -> None:
        if "content" not in documented.response:
            assert not response.content, f"a body where none is documented in {_told(response)}"
            return
        media_type = response.headers["content-type"].partition(";")[0]
        content = documented.response["content"]
        matching = [name for name in content if fnmatchcase(media_type, name)]
        assert matching, f"{media_type} is not among {list(content)} in {_told(response)}"
        escaped = matching[0].replace("/", "~1")
        schema = f"{documented.pointer}/content/{escaped}/schema"
        if media_type.endswith("json"):
            body = json.loads(response.content)
            self._validate(schema, body, f"body of {_told(response)}")
            if media_type == "application/problem+json":
                _check_problem(response, body)
        elif media_type.endswith("yaml"):
            self._validate(schema, yaml.safe_load(response.text), f"body of {_told(response)}")

    def _validate(self, pointer: str, value: Any, what: str) -> None:
        found = self.validator(pointer).iter_errors(value)
        errors = [f"{error.json_path}: {error.message}" for error in found]
        assert not errors, f"{what}: {errors}"


def _check_problem(response: httpx.Response, body: dict[str, Any]) -> None:
    """What a schema cannot say: the document and the answer around it agree."""
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:gateway:problem:{body['code']}"
    assert body["request_id"] == response.headers["x-request-id"]


def _told(response: httpx.Response) -> str:
    request = response.request
    return f"{request.method} {request.url.path} -> {response.status_code} {response.text[:300]!r}"
