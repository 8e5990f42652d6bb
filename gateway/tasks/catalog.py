"""Which model serves a request, and what it costs: known before anything runs."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from gateway.errors import ErrorCode, FieldError, Forbidden, InvalidRequest, Unavailable
from gateway.model import Deployment, ModelKind, MusicSpec, Route

#: Lyria 2 gives 32.8 s (vertex-facts §1.5); whole seconds up to this can be cut from it.
LYRIA2_LONGEST_S = 32
LYRIA2_CLIP_S = 32.8
#: What a request may ask for, and a MusicGen endpoint makes.
LONGEST_S = 300
DEFAULT_DURATION_S = 30


@dataclass(frozen=True, slots=True)
class RouteOffer:
    """A route that a model serves: the clip lengths to be had there, and whether it is the route's choice."""

    route: Route
    chosen: bool
    shortest_s: float
    longest_s: float
    default_s: float


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be asked for, and where."""

    deployment: Deployment
    routes: tuple[RouteOffer, ...]


class Catalog:
    """The configured deployments, in order of preference for the standard route."""

    def __init__(self, deployments: tuple[Deployment, ...]) -> None:
        self.deployments = deployments

    def choose(self, route: Route, model: str | None, allowed: Collection[str] | None = None) -> Deployment:
        """The deployment for a request whose caller may use the ``allowed`` models, None being all.

        Raises `InvalidRequest` for a model not configured here, `Forbidden` when all that the route has are
        not allowed, `Unavailable` when it has none.
        """
        if model is not None:
            return self._named(route, model)
        wanted = self._serving(route)
        if wanted and allowed is not None:
            wanted = [d for d in wanted if d.kind.value in allowed]
            if not wanted:
                raise Forbidden(
                    "This key may use none of this route's models; it may use: "
                    f"{', '.join(sorted(allowed)) or 'no model'}."
                )
        if not wanted:
            raise Unavailable(
                "No model is configured for this route. The operator sets GATEWAY_PROJECT for Lyria 2.",
                code=ErrorCode.MODEL_UNAVAILABLE,
                retry_after_s=60,
            )
        return wanted[0]

    def of_kind(self, kind: ModelKind) -> tuple[Deployment, ...]:
        """Where tasks of this model run now; none when the model was taken out of the configuration."""
        return tuple(d for d in self.deployments if d.kind is kind)

    def offers(self, allowed: Collection[str] | None = None) -> tuple[Offer, ...]:
        """Each model whose caller may use the ``allowed`` ones, None being all; in order of preference."""
        kinds = dict.fromkeys(d.kind for d in self.deployments if allowed is None or d.kind.value in allowed)
        return tuple(self._offer(kind, kinds) for kind in kinds)

    def _offer(self, kind: ModelKind, kinds: Collection[ModelKind]) -> Offer:
        routes = []
        for route in Route:
            serving = [d.kind for d in self._serving(route) if d.kind in kinds]
            if kind in serving:
                routes.append(_route_offer(route, kind, chosen=serving[0] is kind))
        return Offer(next(d for d in self.deployments if d.kind is kind), tuple(routes))

    def _serving(self, route: Route) -> list[Deployment]:
        return [d for d in self.deployments if route is Route.STANDARD or d.kind is ModelKind.LYRIA2]

    def _named(self, route: Route, model: str) -> Deployment:
        allowed = self._serving(route)
        for deployment in allowed:
            if model == deployment.kind.value:
                return deployment
        names = ", ".join(d.kind.value for d in allowed) or "none"
        detail = f"{model!r} is not available here; leave it out, or choose one of: {names}."
        raise InvalidRequest((FieldError("model", "unknown_model", detail),))


def _route_offer(route: Route, kind: ModelKind, *, chosen: bool) -> RouteOffer:
    if route is Route.LYRIA:
        return RouteOffer(route, chosen, LYRIA2_CLIP_S, LYRIA2_CLIP_S, LYRIA2_CLIP_S)
    longest_s = LYRIA2_LONGEST_S if kind is ModelKind.LYRIA2 else LONGEST_S
    return RouteOffer(route, chosen, 1, longest_s, DEFAULT_DURATION_S)


def fit(spec: MusicSpec, route: Route, deployment: Deployment) -> MusicSpec:
    """The request as this deployment will serve it, its default length filled in.

    Raises `InvalidRequest` when the model cannot give the length asked for.
    """
    if route is Route.LYRIA:
        return spec
    duration_s = spec.duration_s if spec.duration_s is not None else DEFAULT_DURATION_S
    if deployment.kind is ModelKind.LYRIA2 and duration_s > LYRIA2_LONGEST_S:
        detail = (
            f"{deployment.kind.value}, the model configured here, gives at most {LYRIA2_LONGEST_S} seconds; "
            "ask for less, or have a MusicGen endpoint configured."
        )
        raise InvalidRequest((FieldError("durationSeconds", "too_long_for_model", detail),))
    return replace(spec, duration_s=duration_s)
