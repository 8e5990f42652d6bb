"""Names of stored objects: they tell whose a clip is and which call made it, and nothing of what is in it."""

import re

from gateway.model import Task

_NAME = re.compile(
    r"(?P<tenant>ten_[0-9a-z]{1,60})/(?P<task>task_[0-9a-z]{1,60})/"
    r"t?[0-9]{1,3}-[0-9a-z]{1,60}(-[0-9]{1,3})?\.[0-9a-z]{1,10}"
)


def object_name(task: Task, label: str, attempt_id: str, extension: str, number: int = 1) -> str:
    """The name for the ``number``-th try of a clip (its index) or a take (t and its number) to be stored.

    The attempt is part of it: a worker that lost its lease can never write over its successor.
    """
    again = f"-{number}" if number > 1 else ""
    return f"{task.tenant_id}/{task.id}/{label}-{attempt_id}{again}.{extension}"


def probe_name(token: str) -> str:
    """For what is written to see whether it can be, and deleted at once: `owner_of` knows no task for it."""
    return f"gateway-check/{token}.txt"


def owner_of(name: str) -> tuple[str, str] | None:
    """The tenant and the task of an object; None for a name that no gateway gives."""
    found = _NAME.fullmatch(name)
    return None if found is None else (found["tenant"], found["task"])
