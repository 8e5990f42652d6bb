"""The benchmark: ``make bench``, or ``python -m tests.bench [--only polls,start] [--quick]``.

Everything runs on the loopback interface, in processes started here and stopped here.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.bench import (
    accepts,
    admissions,
    claims,
    conversions,
    environments,
    estimates,
    events,
    floods,
    instances,
    joins,
    latency,
    machine,
    memory,
    polls,
    start,
    wrk,
)
from tests.bench.processes import start_module
from tests.bench.report import Section
from tests.bench.rounds import Bench

MEASUREMENTS: dict[str, Callable[[Bench], list[Section]]] = {
    "polls": polls.measure,
    "accepts": accepts.measure,
    "admissions": admissions.measure,
    "claims": claims.measure,
    "estimates": estimates.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "floods": floods.measure,
    "events": events.measure,
    "instances": instances.measure,
    "start": start.measure,
    "conversions": conversions.measure,
    "joins": joins.measure,
}
_NEED_WRK = {"polls", "accepts", "latency"}
_NO_WRK = (
    "wrk is not installed, and polls, accepts and latency need it. On Debian: apt-get install wrk. "
    "Without it: python -m tests.bench --only "
    "admissions,claims,memory,floods,events,instances,start,conversions,joins"
)


def main() -> None:
    options = _options()
    chosen = options.only.split(",") if options.only else list(MEASUREMENTS)
    if unknown := set(chosen) - set(MEASUREMENTS):
        sys.exit(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}.")
    if _NEED_WRK & set(chosen) and not wrk.available():
        sys.exit(_NO_WRK)
    # With it, Python would compile every module at every start: no figure here would mean anything.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # noqa: TID251 - for the processes started here
    # An end like any other: what was started here is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(machine.describe(), flush=True)
    with ExitStack() as stack:
        bench = _open(stack, options)
        for name in chosen:
            began_s = time.monotonic()
            for section in MEASUREMENTS[name](bench):
                print(f"\n{section.table()}", flush=True)
            print(
                f"\n({time.monotonic() - began_s:.0f} s, load average {machine.load_average():.1f} then)",
                flush=True,
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the gateway.")
    parser.add_argument("--only", default="", help=f"comma-separated: {','.join(MEASUREMENTS)}")
    parser.add_argument("--quick", action="store_true", help="two short rounds each: does it run at all?")
    parser.add_argument("--rounds", type=int, help="A B rounds (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds of load in each round (default 4)")
    return parser.parse_args()


def _open(stack: ExitStack, options: argparse.Namespace) -> Bench:
    """Directories that go away again, and the upstream that everything is put in front of."""
    on_disk = environments.HOME / "run"
    shutil.rmtree(on_disk, ignore_errors=True)
    on_disk.mkdir(parents=True)
    stack.callback(shutil.rmtree, on_disk, ignore_errors=True)
    in_memory = machine.memory_directory()
    if in_memory is None:
        print("There is no /dev/shm here: what should be in memory is on the disk as well.")
    fast = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=in_memory)))
    return Bench(
        directory=on_disk,
        memory_directory=fast,
        upstream=stack.enter_context(start_module("upstream", on_disk)),
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (2.0 if options.quick else 4.0),
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
