"""Query parameters. One that is not known is refused: misspelt, it would mean something else."""

from collections.abc import Mapping, Sequence

from starlette.requests import Request

from gateway.errors import FieldError, InvalidRequest
from gateway.web.schemas import TOLD_FIELDS

_NAME_CHARS = 100


def read_query(request: Request, known: Sequence[str] = ()) -> Mapping[str, str]:
    """The parameters that were given, each once at most. Raises `InvalidRequest` naming what will not do."""
    given = request.query_params
    takes = f"it takes {', '.join(known)}" if known else "it takes none"
    unknown = [
        FieldError(name[:_NAME_CHARS], "unknown_field", f"is not a query parameter of this request; {takes}.")
        for name in given
        if name not in known
    ]
    repeated = [
        FieldError(name, "duplicate", "is given more than once; give it once.")
        for name in known
        if len(given.getlist(name)) > 1
    ]
    if faults := unknown or repeated:
        raise InvalidRequest(tuple(faults[:TOLD_FIELDS]))
    return given
