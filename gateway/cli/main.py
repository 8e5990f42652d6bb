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
    "migrate": ("gateway.cli.migrate", "Bring the database to this version's schema."),
    "tenant": ("gateway.cli.tenant", "Create and list tenants."),
    "key": ("gateway.cli.key", "Create, list and revoke API keys."),
    "usage": ("gateway.cli.usage", "Show and export what was used and charged."),
    "ledger": ("gateway.cli.ledger", "Adjust what a tenant has spent."),
    "reconcile": ("gateway.cli.reconcile", "Recompute all money from rows and report every difference."),
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is looked up (click, "Lazily Loading Subcommands")."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module_name, help_text = _COMMANDS[cmd_name]
        command: click.Command = _load(module_name).command
        command.help = help_text
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gateway", message="gateway %(version)s")
def main() -> None:
    """Metered multi-tenant access to Google's music models on Vertex AI.

    Settings are GATEWAY_* environment variables; README.md lists them.
    """
