"""The rules of shape that no linter checks. Each rule is also shown code that breaks it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
LEAST_REASON_LETTERS = 12

# Imports inside a function, as "file: module", each with its reason.
ALLOWED_LOCAL_IMPORTS = {
    "gateway/deployments.py: yaml": "only whoever has a file of deployments pays for the import",
    "gateway/emulator/mp3.py: soundfile": "with the first song: most tests play none",
    "gateway/tasks/studio.py: gateway.audio": "with the first piece of audio: NumPy costs 80 ms and 25 MB",
    "gateway/cli/endpoint.py: gateway.provisioning": "Google's client is an extra of seconds and 300 MB",
}

# Which modules load Google's own clients, both extras.
GOOGLES_CLIENTS = frozenset({"gateway/provisioning/vertex.py", "gateway/db/cloudsql.py"})

# Calls of a method named commit outside the databases themselves, as "file: receiver", each with its reason.
ALLOWED_COMMITS = {
    "gateway/tasks/deposit.py: writer": "makes a stored clip visible; no database is involved",
    "gateway/storage/probing.py: writer": "the same, for an object that is deleted at once",
}


@dataclass(frozen=True, slots=True)
class Module:
    """A product file. `name` is relative to the repository, with slashes."""

    name: str
    text: str

    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(ast.parse(self.text)))


Rule = Callable[[Module], list[str]]


def long_file(module: Module) -> list[str]:
    count = len(module.text.splitlines())
    return [f"{module.name} has {count} lines"] if count > MAX_FILE_LINES else []


def long_functions(module: Module) -> list[str]:
    functions = [n for n in module.nodes() if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions]
    return [f"{module.name}: {name} has {n} lines" for name, n in lengths if n > MAX_FUNCTION_LINES]


def global_names(module: Module) -> list[str]:
    found = [node for node in module.nodes() if isinstance(node, ast.Global)]
    return [f"{module.name}:{node.lineno}: global {', '.join(node.names)}" for node in found]


def local_imports(module: Module) -> list[str]:
    inside = [
        node
        for function in module.nodes()
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    ]
    direct = [alias.name for node in inside if isinstance(node, ast.Import) for alias in node.names]
    named = ["." * node.level + (node.module or "") for node in inside if isinstance(node, ast.ImportFrom)]
    return [
        line for name in direct + named if (line := f"{module.name}: {name}") not in ALLOWED_LOCAL_IMPORTS
    ]


def settings_made_below_the_command_line(module: Module) -> list[str]:
    """Settings are read once, by the command line. (The emulator has a class of that name of its own.)"""
    if module.name.startswith("gateway/cli/"):
        return []
    ours = any(isinstance(n, ast.ImportFrom) and n.module == "gateway.settings" for n in module.nodes())
    calls = [node for node in module.nodes() if isinstance(node, ast.Call)]
    made = [call.lineno for call in calls if ast.unparse(call.func).split(".")[-1] == "Settings"]
    return [f"{module.name}:{line}: Settings()" for line in made if ours]


def commits_outside_the_engine(module: Module) -> list[str]:
    """Who commits decides what is one state change: the two kinds of database, once per unit of work."""
    if module.name in {"gateway/db/sqlite.py", "gateway/db/postgres.py"}:
        return []
    receivers = [
        ast.unparse(node.func.value)
        for node in module.nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    ]
    return [line for name in receivers if (line := f"{module.name}: {name}") not in ALLOWED_COMMITS]


def broad_excepts_without_a_reason(module: Module) -> list[str]:
    lines = ["", *module.text.splitlines()]
    handlers = [node for node in module.nodes() if isinstance(node, ast.ExceptHandler)]
    broad = [h.lineno for h in handlers if h.type is None or _is_broad(h.type)]
    return [f"{module.name}:{n}" for n in broad if not (_reason(lines[n]) or _reason(lines[n - 1]))]


def googles_client_outside_its_module(module: Module) -> list[str]:
    """It takes seconds and 300 MB, so nothing that serves may load it. (import-linter sees only `google`.)"""
    if module.name in GOOGLES_CLIENTS:
        return []
    plain = [(n.lineno, alias.name) for n in module.nodes() if isinstance(n, ast.Import) for alias in n.names]
    named = [
        (n.lineno, f"{n.module}.{alias.name}")
        for n in module.nodes()
        if isinstance(n, ast.ImportFrom)
        for alias in n.names
    ]
    heavy = ("google.cloud.", "google.api_core.", "grpc.")
    return [f"{module.name}:{line}: {name}" for line, name in plain + named if f"{name}.".startswith(heavy)]


def _is_broad(kind: ast.expr) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(ast.unparse(item) in {"Exception", "BaseException"} for item in kinds)


def _reason(line: str) -> bool:
    """Whether a comment on `line` says something besides which check it switches off."""
    _, _, comment = line.partition("#")
    words = re.sub(r"(noqa|type|pragma):\s*[A-Z0-9, \[\]-]*", "", comment)
    return len(re.sub(r"[^A-Za-z]", "", words)) >= LEAST_REASON_LETTERS


RULES: tuple[Rule, ...] = (
    long_file,
    long_functions,
    global_names,
    local_imports,
    settings_made_below_the_command_line,
    commits_outside_the_engine,
    broad_excepts_without_a_reason,
    googles_client_outside_its_module,
)

BROKEN: dict[Rule, tuple[str, ...]] = {
    long_file: ("\n" * (MAX_FILE_LINES + 1),),
    long_functions: (
        "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES,
        "class C:\n    async def f():\n" + "        pass\n" * MAX_FUNCTION_LINES,
    ),
    global_names: ("def f():\n    global x\n    x = 1\n",),
    local_imports: (
        "def f():\n    import json\n",
        "class C:\n    async def f():\n        from gateway import model\n",
    ),
    settings_made_below_the_command_line: ("from gateway.settings import Settings\ns = Settings()\n",),
    commits_outside_the_engine: ("def f(connection):\n    connection.commit()\n",),
    broad_excepts_without_a_reason: (
        "try:\n    f()\nexcept Exception:\n    pass\n",
        "try:\n    f()\nexcept BaseException:  # noqa: BLE001\n    pass\n",
        "try:\n    f()\nexcept (ValueError, Exception):\n    pass\n",
        "try:\n    f()\nexcept:\n    pass\n",
    ),
    googles_client_outside_its_module: (
        "import google.cloud.aiplatform\n",
        "from google.cloud import aiplatform_v1 as v1\n",
        "def f():\n    from google.cloud.aiplatform_v1 import Model\n",
        "import grpc\n",
    ),
}

SOUND = '''
import google.auth
from gateway.settings import Settings

def f(settings: Settings, connection, g):
    """Does as it should."""
    try:
        connection.execute(g)
    except ValueError:
        raise
    # the loop's edge: one bad turn must not end the rest
    except Exception:
        connection.rollback()
    except BaseException:  # noqa: BLE001 - every waiter must hear of it
        raise
'''


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_product_keeps_the_rule(rule: Rule) -> None:
    assert [fault for module in product() for fault in rule(module)] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [pytest.param(rule, text, id=rule.__name__) for rule in RULES for text in BROKEN[rule]],
)
def test_rule_finds_what_breaks_it(rule: Rule, text: str) -> None:
    assert len(rule(Module("gateway/tasks/example.py", text))) == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_lets_sound_code_pass(rule: Rule) -> None:
    assert rule(Module("gateway/tasks/example.py", SOUND)) == []


def test_exceptions_to_the_rules_are_still_needed() -> None:
    modules = {module.name: module.text for module in product()}
    for entry, reason in {**ALLOWED_LOCAL_IMPORTS, **ALLOWED_COMMITS}.items():
        name, _, what = entry.partition(": ")
        assert what in modules[name], f"{entry} is gone"
        assert len(reason) >= LEAST_REASON_LETTERS


def test_layers_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("gateway/db/engine.py", "import gateway.tasks", "Layers"),
        ("gateway/model.py", "import gateway.settings", "Layers"),
        ("gateway/emulator/__init__.py", "import gateway.model", "stranger"),
        ("gateway/tasks/__init__.py", "import gateway.storage", "Adapters"),
        ("gateway/tasks/__init__.py", "import sqlalchemy", "SQLAlchemy"),
        ("gateway/db/engine.py", "import starlette", "Starlette"),
        ("gateway/provisioning/deployer.py", "import gateway.db", "Deploying knows"),
        ("gateway/provisioning/deployer.py", "import google.cloud.aiplatform", "Google's libraries"),
        ("gateway/bootstrap/services.py", "import gateway.provisioning", "Only the command line deploys"),
        ("gateway/web/__init__.py", "import gateway.db", "database through services"),
    ],
)
def test_an_import_against_the_layers_is_caught(
    tmp_path: Path, module: str, line: str, contract: str
) -> None:
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as changed:
        changed.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert done.returncode == 1, done.stdout
    assert any(contract in text for text in broken), broken


def lint_imports(directory: Path) -> "subprocess.CompletedProcess[str]":
    """import-linter on the package in `directory`, with the contracts of the pyproject.toml there."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},  # noqa: TID251 - handed on, not read
        capture_output=True,
        text=True,
        check=False,
    )


def product() -> list[Module]:
    """Every file of the product but the migrations, which follow the schema and are never edited."""
    files = sorted((ROOT / "gateway").rglob("*.py"))
    names = {path: path.relative_to(ROOT).as_posix() for path in files}
    return [Module(name, path.read_text()) for path, name in names.items() if "/migrations/" not in name]
