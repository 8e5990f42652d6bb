"""Which budgets were reported, and at which of their shares: once each, whoever notices."""

from collections.abc import Iterable

import sqlalchemy as sa

from gateway.db.engine import Tx
from gateway.db.tables import budget_alerts

_HIGHEST = sa.select(sa.func.max(budget_alerts.c.percent)).where(
    budget_alerts.c.tenant_id == sa.bindparam("of_tenant"),
    budget_alerts.c.period == sa.bindparam("in_period"),
)
_INSERT = sa.insert(budget_alerts)
_FORGET = sa.delete(budget_alerts).where(
    budget_alerts.c.tenant_id == sa.bindparam("of_tenant"),
    budget_alerts.c.period.in_(sa.bindparam("periods", expanding=True)),
)


def note_alert(tx: Tx, tenant_id: str, *, period: str, percent: int, now_ms: int) -> bool:
    """True when nothing as high was noted in this period. The caller has locked the tenant."""
    highest = tx.execute(_HIGHEST, {"of_tenant": tenant_id, "in_period": period}).scalar_one()
    if highest is not None and highest >= percent:
        return False
    tx.execute(_INSERT, {"tenant_id": tenant_id, "period": period, "percent": percent, "at_ms": now_ms})
    return True


def forget_alerts(tx: Tx, tenant_id: str, periods: Iterable[str]) -> None:
    """Another limit is another story: what is reached of it is worth a word again."""
    tx.execute(_FORGET, {"of_tenant": tenant_id, "periods": list(periods)})
