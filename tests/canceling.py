"""A canceler of a process that runs no tasks itself."""

import secrets

from gateway.db.engine import Database
from gateway.metrics import Metrics
from gateway.ports import Clock
from gateway.tasks.budget import CancelCharge
from gateway.tasks.canceler import Canceler
from gateway.tasks.ids import IdMaker
from gateway.tasks.runner import Runner, RunnerPolicy
from gateway.tasks.signals import Signals
from gateway.webhooks.outbox import Announcer


def a_canceler(database: Database, clock: Clock, charge: CancelCharge = CancelCharge.FULL) -> Canceler:
    metrics, signals = Metrics("test"), Signals(database)
    announcer = Announcer(IdMaker(clock, secrets.token_bytes), "http://gateway")
    policy = RunnerPolicy(concurrency=0, lease_s=60.0, grace_s=0.0)
    runner = Runner(database, None, None, signals, metrics, clock, policy)
    return Canceler(database, announcer, runner, signals, metrics, clock, charge)
