"""``gateway generate``: music through a gateway, as any caller makes it."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from gateway.cli import options
from gateway.cli.environment import Exit, read_settings
from gateway.cli.tables import print_json
from gateway.client import ApiError, Client, Clip, Event, Task
from gateway.client.request import Wishes
from gateway.units import format_usd

_SUFFIXES = {"audio/wav": "wav", "audio/flac": "flac", "audio/mpeg": "mp3", "audio/ogg": "ogg"}


@click.command("generate")
@click.argument("prompt")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to put it.")
@click.option("--seconds", type=int, help="How long it should be.")
@click.option("--samples", type=int, help="How many versions of it.")
@click.option("--model", help="A model by name; without it the gateway chooses.")
@click.option("--seed", type=int, help="The same seed gives the same music.")
@click.option("--without", help="What should not be heard.")
@click.option("--format", "file_format", help="wav, flac, mp3, ogg or opus.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@options.as_json
def command(
    *,
    prompt: str,
    output: Path | None,
    seconds: int | None,
    samples: int | None,
    model: str | None,
    seed: int | None,
    without: str | None,
    file_format: str | None,
    force: bool,
    as_json: bool,
) -> None:
    settings = read_settings()
    key = settings.api_key.get_secret_value()
    if not key:
        raise click.UsageError("Set GATEWAY_API_KEY to the key to call with; gateway key create makes one.")
    said = {
        "seconds": seconds, "samples": samples, "model": model, "seed": seed,
        "negative_prompt": without, "format": file_format or _format_of(output),
    }  # fmt: skip
    wishes: Wishes = {name: value for name, value in said.items() if value is not None}  # type: ignore[assignment]  # names of Wishes
    _refuse_to_overwrite(output, samples or 1, force=force)
    try:
        with Client(settings.url, key) as client:
            task = _make(client, prompt, wishes)
            paths = [client.download(clip, path) for clip, path in _places(task, output, force=force)]
    except ApiError as error:
        fields = " ".join(f"{each['field']}: {each['detail']}" for each in error.fields)
        raise SystemExit(_fail(fields or error.detail or error.code)) from error
    if as_json:
        print_json({**task.document, "files": [str(path) for path in paths]})
    else:
        for path in paths:
            click.echo(str(path))
    if not task.succeeded:
        raise SystemExit(_fail(f"{task.error_code or task.status}: {task.error_detail or ''}".rstrip(": ")))


def _make(client: Client, prompt: str, wishes: Wishes) -> Task:
    """The task at its end, told of on the way; whoever presses Ctrl-C cancels it."""
    task = client.generate(prompt, wait=False, **wishes)
    click.echo(f"{task.id}, {task.model}, ${format_usd(task.price_micros)}", err=True)
    try:
        with _interruptible():
            for event in client.events(task.id):
                click.echo(_said(event), err=True)
        return client.wait(client.get(task.id))
    except KeyboardInterrupt:
        task = client.cancel(task.id)
        click.echo(f"Canceled; charged ${format_usd(task.charged_micros or 0)}.", err=True)
        return task


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM is as good as Ctrl-C: what nobody waits for any more should not be paid for."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _said(event: Event) -> str:
    match event.name:
        case "queued":
            place = event.data.get("queue") or {}
            left = place.get("starts_in_s")
            number = f", number {place['position']} in line" if place.get("position") else ""
            return f"waiting{number}{f', about {left:.0f} s' if left is not None else ''}"
        case "running":
            return "being made"
        case "take":
            return f"part {event.data['take']} of {event.data['of']} is there"
        case "clip":
            return f"clip {event.data['index'] + 1} is there"
        case name:
            return name


def _places(task: Task, output: Path | None, *, force: bool) -> list[tuple[Clip, Path]]:
    found = []
    for number, clip in enumerate(task.clips, 1):
        suffix = _SUFFIXES.get(clip.mime_type.partition(";")[0], "audio")
        path = output or Path(f"{task.id}.{suffix}")
        found.append((clip, path if len(task.clips) == 1 else _numbered(path, number)))
    for _, path in found:
        if path.exists() and not force:
            raise SystemExit(
                _fail(f"{path} is there already; --force writes over it. The task is {task.id}.")
            )
    return found


def _refuse_to_overwrite(output: Path | None, samples: int, *, force: bool) -> None:
    """Before anything is paid for."""
    if output is None or force:
        return
    for path in [output] if samples == 1 else [_numbered(output, number + 1) for number in range(samples)]:
        if path.exists():
            raise click.UsageError(f"{path} is there already; --force writes over it.")


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _format_of(output: Path | None) -> str | None:
    """What the file's name asks for; the gateway says what it does not know."""
    return output.suffix.removeprefix(".").lower() or None if output is not None else None


def _fail(text: str) -> int:
    click.echo(f"error: {text}", err=True)
    return Exit.FAILED
