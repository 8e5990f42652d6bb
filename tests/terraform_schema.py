"""What a release of Terraform's google provider lets one write, and what it tells back.

The provider is in no package index, but CDKTF's bindings are, and they are generated from its schema. As a
command, this makes `terraform_schema.json` out of their wheel, for the resources of `deploy/terraform`:

    pip download --no-deps cdktf-cdktf-provider-google==16.12.1
    python -m tests.terraform_schema cdktf_cdktf_provider_google-16.12.1-py3-none-any.whl
"""

import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXCERPT = Path(__file__).with_name("terraform_schema.json")
TERRAFORM = ROOT / "deploy" / "terraform"

Json = dict[str, Any]

_LINK = re.compile(
    r"providers/hashicorp/google/(?P<version>[\d.]+)/docs/(?:resources|data-sources)/"
    r"(?P<resource>\w+)#(?P<argument>\w+) "
)
_HEADER = re.compile(r'^(resource|data) "google_(\w+)"', re.MULTILINE)
# What every resource of CDKTF's has besides the provider's attributes.
_OF_CDKTF = re.compile(
    r"tfResourceType|.*Input$|fqn|friendlyUniqueId|terraform.*|rawOverrides|node|cdktfStack"
)


def load() -> Json:
    found: Json = json.loads(EXCERPT.read_text())
    return found


def used() -> set[tuple[str, str]]:
    """Kind and name, without `google_`, of every resource and data source of the configuration."""
    text = "\n".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    return set(_HEADER.findall(text))


def main(wheel: Path) -> None:
    types = _assembly(wheel)
    version = ""
    kinds: dict[str, Json] = {"resource": {}, "data": {}}
    by_name = {_document_name(fqn): fqn for fqn in types if fqn.endswith("Config")}
    for kind, name in sorted(used()):
        config = types[by_name[f"{'data_google_' if kind == 'data' else ''}{name}"]]
        version = max(version, *(link["version"] for link in map(_link, config["properties"]) if link))
        arguments = _arguments(config, types)
        told = types[config["fqn"].removesuffix("Config")].get("properties", [])
        names = {_snake(item["name"]) for item in told if not _OF_CDKTF.fullmatch(item["name"])}
        kinds[kind][f"google_{name}"] = {
            "arguments": arguments,
            "told": sorted(names - set(arguments)),
        }
    excerpt = {
        "provider": "hashicorp/google",
        "version": version,
        "source": f"{wheel.name.split('-py3')[0]} (MPL-2.0), names and types only",
        **kinds,
    }
    EXCERPT.write_text(json.dumps(excerpt, indent=1, sort_keys=True) + "\n")


def _assembly(wheel: Path) -> Json:
    """CDKTF's types: the wheel holds a package for Node, which holds their description."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as inner:
        member = inner.extractfile("package/.jsii")
        assert member is not None
        found: Json = json.load(member)["types"]
    return found


def _document_name(fqn: str) -> str:
    return _snake(fqn.rsplit(".", 1)[1].removesuffix("Config"))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[0].upper() + name[1:]).lower()


def _link(item: Json) -> re.Match[str] | None:
    # In the summary where the provider says nothing about an argument.
    docs = item.get("docs", {})
    return _LINK.search(f"{docs.get('remarks', '')} {docs.get('summary', '')}")


def _arguments(struct: Json, types: Json) -> Json:
    found: Json = {}
    for item in struct.get("properties", []):
        link = _link(item)
        if link is None:
            continue  # a meta-argument of CDKTF's
        found[link["argument"]] = described = _type(item["type"], types)
        if not item.get("optional"):
            described["required"] = True
    return found


def _type(given: Json, types: Json) -> Json:
    """`{"type": …}`, or `{"block": …}` with what stands in it."""
    if "union" in given:
        (given, *_) = [item for item in given["union"]["types"] if item.get("fqn") != "cdktf.IResolvable"]
    if "primitive" in given:
        return {"type": {"boolean": "bool"}.get(given["primitive"], given["primitive"])}
    if "collection" in given:
        inner = _type(given["collection"]["elementtype"], types)
        if "block" in inner:
            return inner
        return {"type": {"array": "list", "map": "map"}[given["collection"]["kind"]], "of": inner["type"]}
    return {"block": _arguments(types[given["fqn"]], types)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
