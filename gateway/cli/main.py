"""``gateway``: the list of commands. Each is loaded when it is asked for, so that `serve` starts quickly."""

import gc
import importlib
from types import ModuleType

import click

_COMMANDS = {
    "serve": ("gateway.cli.serve", "Serve the API and run tasks."),
    "demo": (
        "gateway.cli.demo",
        "Serve with everything embedded: emulator, SQLite, local audio, a demo key.",
    ),
    "emulator": ("gateway.cli.emulator", "Serve a look-alike of Vertex AI music models."),
    "endpoint": (
        "gateway.cli.endpoint",
        "Deploy MusicGen on an endpoint of your own, show it, take it down.",
    ),
    "check": ("gateway.cli.check", "Try all that the configuration names, and say what is wrong."),
    "migrate": ("gateway.cli.migrate", "Bring the database to this version's schema."),
    "copy-database": (
        "gateway.cli.copy_database",
        "Copy an installation from one database to another, SQLite to PostgreSQL or back.",
    ),
    "dashboard": ("gateway.cli.dashboard", "Make a link that signs somebody in to the dashboard."),
    "generate": ("gateway.cli.generate", "Make music through a gateway, into a file."),
    "tenant": ("gateway.cli.tenant", "Create, change, suspend and list tenants, and set their budgets."),
    "member": ("gateway.cli.member", "Say who belongs to a tenant, and as what."),
    "key": ("gateway.cli.key", "Create, change, rotate, revoke and list API keys."),
    "usage": ("gateway.cli.usage", "Show and export what was used and charged."),
    "ledger": ("gateway.cli.ledger", "Read the ledger; adjust what a tenant has spent."),
    "audit": ("gateway.cli.audit", "Read what was administered, and by whom."),
    "reconcile": ("gateway.cli.reconcile", "Recompute all money from rows and report every difference."),
}

_EXIT_CODES = """\b
Exit codes:
  0  done
  1  it failed or was refused; reconcile: something differs; check: something will not work
  2  wrong usage or configuration
  3  the question was not answered with yes, so nothing was changed
"""


class LazyGroup(click.Group):
    """Imports a command's module when the command is looked up (click, "Lazily Loading Subcommands")."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if cmd_name not in _COMMANDS:
            return None
        module_name, help_text = _COMMANDS[cmd_name]
        command: click.Command = _load(module_name).command
        command.help = help_text
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _load(module_name: str) -> ModuleType:
    """Import a module with the garbage collector out of the way.

    Nothing that an import makes is garbage, yet looking for some is a seventh of the time it takes. What is
    loaded stays, so that later collections need not look at it either.
    """
    gc.disable()
    try:
        return importlib.import_module(module_name)
    finally:
        gc.freeze()
        gc.enable()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(package_name="gateway", message="gateway %(version)s")
def main() -> None:
    """Metered multi-tenant access to Google's music models on Vertex AI.

    Settings are GATEWAY_* environment variables; README.md lists them.
    """
