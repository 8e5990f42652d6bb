"""``gateway endpoint``."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import click

from gateway.cli import options
from gateway.cli.environment import Exit, fail, read_settings
from gateway.cli.questions import confirm
from gateway.cli.tables import print_facts, print_json, print_table
from gateway.errors import ConfigurationError, GatewayError
from gateway.provisioning import requests
from gateway.provisioning.deployer import Deployer, Platform, Survey, Undone
from gateway.provisioning.description import Description
from gateway.provisioning.plan import (
    DEDICATED_TIMEOUT_S,
    LONGEST_TIMEOUT_S,
    SHARED_TIMEOUT_S,
    Place,
    Plan,
    check_name,
)
from gateway.settings import Settings

T = TypeVar("T")

# Those of Google's enumeration that MusicGen fits on.
ACCELERATORS = (
    *("NVIDIA_L4", "NVIDIA_TESLA_T4", "NVIDIA_TESLA_V100", "NVIDIA_TESLA_A100", "NVIDIA_A100_80GB"),
    *("NVIDIA_H100_80GB", "NVIDIA_RTX_PRO_6000"),
)

_COUNT = click.IntRange(min=1)

_WHERE: tuple[options.Decorator[Any], ...] = (
    click.option("--project", metavar="P", help="The Google Cloud project; GATEWAY_PROJECT at first."),
    click.option("--location", metavar="REGION", help="The region; GATEWAY_LOCATION at first."),
    click.option("--name", default="musicgen", show_default=True, help="What the endpoint is called."),
)

_WHAT: tuple[options.Decorator[Any], ...] = (
    click.option(
        "--image", required=True, metavar="IMAGE",
        help="The container: REGION-docker.pkg.dev/P/REPOSITORY/musicgen:TAG, in the endpoint's region. What "
        "is pushed under the same tag again is not seen as another.",
    ),
    click.option(
        "--weights", "weights_uri", metavar="URI",
        help="The weights, gs://BUCKET/PATH; those in the image at first.",
    ),
    click.option(
        "--output", "output_uri", metavar="URI",
        help="Where the container puts what no answer holds, gs://BUCKET/PREFIX.",
    ),
    click.option(
        "--machine-type", default="g2-standard-8", show_default=True, metavar="TYPE",
        help="What a replica runs on.",
    ),
    click.option(
        "--accelerator", type=click.Choice(ACCELERATORS), default="NVIDIA_L4", show_default=True,
        metavar="GPU", help=f"The GPU of it: {', '.join(ACCELERATORS)}.",
    ),
    click.option(
        "--accelerator-count", type=_COUNT, default=1, show_default=True, metavar="N", help="How many GPUs."
    ),
    click.option(
        "--min-replicas", type=_COUNT, default=1, show_default=True, metavar="N", help="Replicas that always "
        "run."
    ),
    click.option(
        "--max-replicas", type=_COUNT, default=1, show_default=True, metavar="N", help="Replicas at most."
    ),
    click.option(
        "--dedicated", "kind", flag_value="dedicated",
        help="A host name of its own, answers of 10 MB; so it is unless --shared is said.",
    ),
    click.option(
        "--shared", "kind", flag_value="shared",
        help=f"Google's shared host: answers of 1.5 MB, calls of {SHARED_TIMEOUT_S} s.",
    ),
    click.option(
        "--inference-timeout-s", type=_COUNT, metavar="N",
        help=f"Seconds a call may take, up to {LONGEST_TIMEOUT_S}; {DEDICATED_TIMEOUT_S} at first.",
    ),
    click.option(
        "--service-account", metavar="EMAIL",
        help="Who the container acts as; Vertex AI's own agent at first.",
    ),
)  # fmt: skip


@click.group("endpoint")
def command() -> None:
    pass


def _where(made: options.Command) -> options.Command:
    return options.decorated(made, _WHERE)


def _what(made: options.Command) -> options.Command:
    return options.decorated(made, _WHAT)


@command.command("deploy")
@_what
@_where
@click.option("--dry-run", is_flag=True, help="Print what Google would be asked for, and ask nothing.")
@options.yes
@options.as_json
def deploy(*, dry_run: bool, yes: bool, as_json: bool, **wanted: Any) -> None:
    """Serve a MusicGen container on an endpoint of yours. It costs money until it is undeployed.

    What is there already is used, so a command that was stopped can be repeated. What else is deployed on the
    endpoint is replaced. GATEWAY_MUSICGEN_LICENCE has to say that the licence of the weights was read.
    """
    settings = read_settings()
    plan = _planned(settings, wanted)
    if dry_run:
        calls = [call.rendered() for call in requests.all_of(plan)]
        click.echo(json.dumps(calls, indent=None if as_json else 2))
        return

    def work(deployer: Deployer) -> Description:
        found = deployer.survey(plan)
        if found.is_done and found.endpoint is not None:
            click.echo("It is deployed already, just so.", err=True)
            return deployer.description(found.endpoint.endpoint)
        click.echo(_costs(plan, found), err=True)
        if not yes:
            confirm(f"Deploy {plan.image} as {plan.name} in {plan.place.parent}?")
        return deployer.deploy(plan)

    _show(_at_google(settings, plan.place, work), as_json=as_json)


@command.command("describe")
@click.argument("endpoint", required=False)
@_where
@options.as_json
def describe(*, endpoint: str | None, as_json: bool, **where: Any) -> None:
    """Show an endpoint, what runs on it, and what to set so that the gateway calls it.

    ENDPOINT is projects/P/locations/L/endpoints/E; without it, the one that was deployed under the name.
    """
    settings = read_settings()
    place = _place(settings, where, endpoint)

    def work(deployer: Deployer) -> Description:
        return deployer.named(place, where["name"]) if endpoint is None else deployer.description(endpoint)

    _show(_at_google(settings, place, work), as_json=as_json)


@command.command("undeploy")
@click.argument("endpoint", required=False)
@_where
@click.option("--delete", is_flag=True, help="Delete the endpoint and its models too.")
@options.yes
@options.as_json
def undeploy(*, endpoint: str | None, delete: bool, yes: bool, as_json: bool, **where: Any) -> None:
    """Take all models off an endpoint, which ends its cost. Only off one that `deploy` made.

    ENDPOINT is projects/P/locations/L/endpoints/E; without it, the one that was deployed under the name.
    """
    settings = read_settings()
    place = _place(settings, where, endpoint)

    def work(deployer: Deployer) -> tuple[str, Undone]:
        found = deployer.named(place, where["name"]) if endpoint is None else deployer.description(endpoint)
        deployer.check_made_here(found.endpoint)
        if not yes:
            confirm(_takes_away(found, delete=delete))
        return found.endpoint, deployer.undeploy(found.endpoint, delete=delete)

    undeployed, done = _at_google(settings, place, work)
    if as_json:
        print_json({"endpoint": undeployed, **asdict(done)})
        return
    click.echo(f"Nothing is deployed on {undeployed} any more.")
    for each in done.deleted:
        click.echo(f"Deleted {each}.")


def _at_google(settings: Settings, place: Place, work: Callable[[Deployer], T]) -> T:
    """Do it with Google's client. Where it ends early, say what is there by then and how to go on."""
    try:
        platform = _open_platform(settings, place)
    except ConfigurationError as error:
        fail(error)
    deployer = Deployer(platform, say=lambda line: click.echo(line, err=True), sleep=time.sleep)
    try:
        return work(deployer)
    except GatewayError as error:
        _say_what_there_is(deployer)
        fail(error)
    except KeyboardInterrupt:
        click.echo("\nStopped.", err=True)
        _say_what_there_is(deployer)
        raise SystemExit(Exit.FAILED) from None
    finally:
        platform.close()


def _open_platform(settings: Settings, place: Place) -> Platform:
    try:
        # Seconds of import and 300 MB that only who deploys has to have.
        from gateway.provisioning import vertex  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "Google's client is not installed: pip install 'gateway[endpoint]'.", internal=str(error)
        ) from error
    return vertex.open_vertex(place.location, url=settings.vertex_url, anonymous=settings.emulated)


def _say_what_there_is(deployer: Deployer) -> None:
    there = deployer.there_is()
    if not there:
        return
    click.echo("By now there is:", err=True)
    for what, resource in there:
        click.echo(f"  {what} {resource}", err=True)
    kinds = dict(there)
    if "operation" in kinds:
        click.echo("The operation goes on at Google, and what it deploys costs money.", err=True)
    click.echo("The same command goes on from here.", err=True)
    if "endpoint" in kinds:
        click.echo(f"To take it away: gateway endpoint undeploy {kinds['endpoint']} --delete", err=True)


def _place(settings: Settings, where: Mapping[str, Any], endpoint: str | None) -> Place:
    """Of the endpoint, or as said. Ends the program where Google has no such names."""
    try:
        check_name(where["name"])
        if endpoint is not None:
            return Place.of(endpoint)
        return Place(where["project"] or settings.project, where["location"] or settings.location)
    except ConfigurationError as error:
        fail(error)


def _planned(settings: Settings, wanted: Mapping[str, Any]) -> Plan:
    terms = dict(wanted)
    place = _place(settings, terms, None)
    del terms["project"], terms["location"]
    dedicated = terms.pop("kind") != "shared"
    timeout_s = terms.pop("inference_timeout_s") or (DEDICATED_TIMEOUT_S if dedicated else SHARED_TIMEOUT_S)
    try:
        return Plan(
            place=place,
            licence=settings.musicgen_licence,
            dedicated=dedicated,
            inference_timeout_s=timeout_s,
            **terms,
        )
    except ConfigurationError as error:
        fail(error)


def _costs(plan: Plan, found: Survey) -> str:
    replicas = (
        f"{plan.min_replicas}"
        if plan.min_replicas == plan.max_replicas
        else f"{plan.min_replicas} to {plan.max_replicas}"
    )
    replaces = " ".join(each.name or each.id for each in found.others)
    also = f" It replaces {replaces}; both run, and cost, until it is up." if replaces else ""
    return (
        f"{replicas} x {plan.machine} costs money by the hour, called or not, until "
        f"`gateway endpoint undeploy` (cloud.google.com/vertex-ai/pricing).{also}"
    )


def _takes_away(found: Description, *, delete: bool) -> str:
    what = ", ".join(each.name or each.id for each in found.deployed) or "nothing"
    also = " The endpoint and its models are deleted for good." if delete else ""
    return (
        f"{found.name} ({found.endpoint}) has {what} deployed; calls fail once it is undeployed.{also} Do it?"
    )


def _show(found: Description, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(found), "settings": found.settings})
        return
    print_facts(_facts(found))
    if found.deployed:
        click.echo()
        print_table(
            ("ID", "DEPLOYED", "MACHINE", "GPU", "REPLICAS", "READY", "TRAFFIC", "SINCE"), _rows(found)
        )
    click.echo()
    for name, value in found.settings.items():
        click.echo(f"{name}={value}")


def _facts(found: Description) -> Sequence[tuple[str, object]]:
    timeout = None if found.inference_timeout_s is None else f"{found.inference_timeout_s:g} s"
    return [
        ("Endpoint", found.endpoint),
        ("Name", found.name),
        ("State", found.state.value),
        ("Kind", "dedicated" if found.dedicated else "shared"),
        ("Host", found.host),
        ("A call may take", timeout),
        ("Created", found.created_at),
    ]


def _rows(found: Description) -> Sequence[Sequence[object]]:
    return [
        (
            each.id,
            each.name,
            each.machine_type,
            f"{each.accelerator_count} x {each.accelerator}" if each.accelerator else None,
            f"{each.min_replicas}-{each.max_replicas}",
            each.ready,
            f"{each.traffic_percent} %",
            each.created_at,
        )
        for each in found.deployed
    ]
