"""The objects in a directory, in order and page by page, however many there are. Blocking, like `disk`."""

import heapq
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from gateway.ports import StoredObject
from gateway.storage.names import OBJECT_SUFFIX

# Sorts before anything that may follow, and is in no name: with it behind a name, the name itself is passed.
_JUST_AFTER = "\0"


def list_objects(root: Path, *, after: str, limit: int) -> tuple[StoredObject, ...]:
    """The first ``limit`` objects after that one, by the parts of their names. Raises OSError.

    Of a folder no more than ``limit`` names are held at once.
    """
    start = [*f"{after}{OBJECT_SUFFIX}{_JUST_AFTER}".split("/")] if after else [""]
    return tuple(islice(_walk(root, "", start, limit), limit))


def _walk(folder: Path, prefix: str, start: list[str], limit: int) -> Iterator[StoredObject]:
    for entry in _folders(folder, start[0], limit):
        if entry.endswith(OBJECT_SUFFIX):
            try:
                made_at_ms = (folder / entry).stat().st_mtime_ns // 1_000_000
            except FileNotFoundError:
                continue  # deleted meanwhile
            yield StoredObject(f"{prefix}{entry.removesuffix(OBJECT_SUFFIX)}", made_at_ms)
        else:
            inside = start[1:] if entry == start[0] else []
            yield from _walk(folder / entry, f"{prefix}{entry}/", inside or [""], limit)


def _folders(folder: Path, at_least: str, limit: int) -> Iterator[str]:
    """The names of the folders in a folder, in order. What is hidden, as what is incoming, is passed over."""
    while True:
        try:
            with os.scandir(folder) as found:
                names = heapq.nsmallest(
                    limit,
                    (
                        entry.name
                        for entry in found
                        if entry.name >= at_least
                        and not entry.name.startswith(".")
                        and entry.is_dir(follow_symlinks=False)
                    ),
                )
        except (FileNotFoundError, PermissionError):
            return  # deleted meanwhile; or somebody else's, such as lost+found
        yield from names
        if len(names) < limit:
            return
        at_least = names[-1] + _JUST_AFTER
