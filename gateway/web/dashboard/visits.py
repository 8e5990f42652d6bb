"""Who is looking at a page, as the gate found out."""

from dataclasses import dataclass

from starlette.types import Scope

from gateway.accounts.people import Person
from gateway.accounts.sessions import SignInMethod
from gateway.errors import Unauthorized

_KEY = "visit"


@dataclass(frozen=True, slots=True)
class Visit:
    """``form_token`` is in every form that we make for them. Without a session a proxy signs them in."""

    person: Person
    form_token: str
    method: SignInMethod
    session_id: str | None = None


def put_visit(scope: Scope, visit: Visit | None) -> None:
    scope[_KEY] = visit


def visit_of(scope: Scope) -> Visit | None:
    found: Visit | None = scope.get(_KEY)
    return found


def require_visit(scope: Scope) -> Visit:
    """Raises `Unauthorized`."""
    visit = visit_of(scope)
    if visit is None:
        raise Unauthorized("Sign in to the dashboard first.")
    return visit
