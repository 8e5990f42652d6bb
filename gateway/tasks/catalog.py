"""The models that are configured here, where they are called, and what may be asked of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.errors import ErrorCode, FieldError, Forbidden, InvalidRequest, Unavailable
from gateway.families.family import Surface, Traits
from gateway.families.lyria2 import LYRIA2
from gateway.families.registry import FAMILIES, KINDS
from gateway.model import Deployment, ModelKind, Route

#: What a request may ask for.
SHORTEST_S = 1
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
    traits: Traits
    routes: tuple[RouteOffer, ...]


class Catalog:
    """The configured deployments. ``order`` names the models of the standard route, the best first.

    Without one an endpoint of the operator's own comes first, since it is paid for anyway; then what is
    cheapest for the request at hand.
    """

    def __init__(self, deployments: tuple[Deployment, ...], order: Sequence[ModelKind] = ()) -> None:
        self.deployments = deployments
        self._order = tuple(order)

    @property
    def has_choice(self) -> bool:
        """Whether there is more than one model."""
        return len({each.kind for each in self.deployments}) > 1

    def candidates(
        self, route: Route, model: str | None, allowed: Collection[str] | None = None
    ) -> tuple[Deployment, ...]:
        """One deployment of each model that may serve a request, in the order of the configuration.

        ``allowed`` are the models that its caller may use, None being all. Raises `InvalidRequest` for a
        model not configured here, `Forbidden` when none that the route has is allowed, `Unavailable` when
        it has none.
        """
        if model is not None:
            return (self._named(route, model),)
        serving = self._serving(route)
        if not serving:
            raise Unavailable(
                "No model is configured for this route. The operator sets GATEWAY_PROJECT for Lyria 2.",
                code=ErrorCode.MODEL_UNAVAILABLE,
                retry_after_s=60,
            )
        wanted = tuple(d for d in serving if allowed is None or d.kind in allowed)
        if not wanted:
            raise Forbidden(
                "This key may use none of this route's models; it may use: "
                f"{', '.join(sorted(allowed or ())) or 'no model'}."
            )
        return wanted

    def rank(self, kind: ModelKind, price_micros: int, takes: int) -> tuple[int, int, int, int]:
        """What comes first is taken first: for a request that costs so much and joins so many takes."""
        if self._order:
            return self._order.index(kind), 0, 0, 0
        theirs = FAMILIES[kind].traits.surface is not Surface.ENDPOINT
        return int(theirs), price_micros, takes, KINDS.index(kind)

    def of_kind(self, kind: ModelKind) -> tuple[Deployment, ...]:
        """Where tasks of this model run now; none when the model was taken out of the configuration."""
        return tuple(d for d in self.deployments if d.kind == kind)

    def offers(self, allowed: Collection[str] | None = None) -> tuple[Offer, ...]:
        """Each model whose caller may use the ``allowed`` ones, None being all; the standard choice first."""
        may = [d for d in self._one_each() if allowed is None or d.kind in allowed]
        ranked = sorted(may, key=lambda d: self._standard_rank(d.kind, d.price_micros))
        return tuple(self._offer(deployment, ranked) for deployment in ranked)

    def _standard_rank(self, kind: ModelKind, price_micros: int) -> tuple[int, ...]:
        """For a request of the default length, which every model gives in one take."""
        if self._order and kind not in self._order:
            return (len(self._order),)
        return self.rank(kind, price_micros, 1)

    def _offer(self, deployment: Deployment, ranked: Sequence[Deployment]) -> Offer:
        traits, routes = FAMILIES[deployment.kind].traits, []
        for route in Route:
            serving = [d.kind for d in ranked if d in self._serving(route)]
            # By name any model may be had on the standard route.
            if route is Route.STANDARD or deployment.kind in serving:
                routes.append(_route_offer(route, traits, chosen=serving[:1] == [deployment.kind]))
        return Offer(deployment, traits, tuple(routes))

    def _one_each(self) -> tuple[Deployment, ...]:
        return tuple({d.kind: d for d in reversed(self.deployments)}.values())[::-1]

    def _serving(self, route: Route) -> tuple[Deployment, ...]:
        each = self._one_each()
        if route is Route.LYRIA:
            return tuple(d for d in each if d.kind == LYRIA2)
        return tuple(d for d in each if not self._order or d.kind in self._order)

    def _named(self, route: Route, model: str) -> Deployment:
        """By name any model may be had on the standard route, in its order or not."""
        known = self._serving(route) if route is Route.LYRIA else self._one_each()
        for deployment in known:
            if model == deployment.kind:
                return deployment
        names = ", ".join(d.kind for d in known) or "none"
        detail = f"{model!r} is not available here; leave it out, or choose one of: {names}."
        raise InvalidRequest((FieldError("model", "unknown_model", detail),))


def _route_offer(route: Route, traits: Traits, *, chosen: bool) -> RouteOffer:
    if route is Route.LYRIA:
        return RouteOffer(route, chosen, traits.longest_s, traits.longest_s, traits.longest_s)
    return RouteOffer(route, chosen, SHORTEST_S, LONGEST_S, DEFAULT_DURATION_S)
