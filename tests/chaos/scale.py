"""How much chaos: who asks for how much, what breaks how often, and by which dice."""

from dataclasses import dataclass

CLIP_MICROS = 60_000


@dataclass(frozen=True)
class Scale:
    """Everything that a run depends on besides the machine. ``seed`` decides who does what.

    There are so many ``prompts``, as the emulator takes a fifth of a second to compose for one.
    One tenant in ``budget_every`` has a budget for exactly ``clips_in_budget`` clips, and asks for more.
    ``database_away_s`` is how long the database is out of reach, once; 0: never. After ``limit_s`` the run is
    broken off as a failure.
    """

    seed: int
    processes: int = 3
    tenants: int = 8
    tasks: int = 150
    prompts: int = 10
    callers: int = 16
    harm_every_s: float = 0.8
    budget_every: int = 4
    clips_in_budget: int = 5
    database_away_s: float = 0.0
    limit_s: float = 150.0

    def prompt_of(self, name: str) -> str:
        """What is asked for under this name: such as ``name-17``."""
        return f"piece {int(name.rpartition('-')[2]) % self.prompts}"


SHORT = Scale(seed=1)
LONG = Scale(
    seed=1,
    tenants=30,
    tasks=2_000,
    prompts=40,
    callers=40,
    harm_every_s=3.0,
    clips_in_budget=20,
    database_away_s=30.0,
    limit_s=1_800.0,
)
