"""How far a task has come: its clips, the takes that wait to be joined, and the calls that it owes. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.audio.lengths import enough
from gateway.db.work import AttemptEnd
from gateway.errors import AttemptFault, UpstreamError
from gateway.families.family import ModelCall, clip_of, place_of
from gateway.families.registry import FAMILIES
from gateway.model import Clip, Take, Task
from gateway.tasks.outcome import UNCOUNTED, Progress


@dataclass(frozen=True, slots=True)
class Stand:
    """Of one moment. ``lost`` are clips that a take with a fixed seed will never be had for."""

    progress: Progress
    takes: tuple[Take, ...]
    lost: frozenset[int] = frozenset()

    @property
    def task(self) -> Task:
        return self.progress.task

    @property
    def unfinished(self) -> bool:
        return len(self.task.clips) < self.task.spec.sample_count

    def calls(self) -> tuple[ModelCall, ...]:
        """The calls that would yield the takes still missing."""
        spec = self.task.spec
        missing = sorted(
            place * spec.sample_count + index
            for index in self._open()
            for place in self._missing_places(index)
        )
        return FAMILIES[self.task.model].calls(spec, missing)

    def joinable(self) -> Iterator[tuple[Take, ...]]:
        """The takes of each clip that has all of them, in their order."""
        for index in self._open():
            takes = self._takes_of(index)
            if takes and not self._missing_places(index):
                yield takes

    @property
    def ripe(self) -> bool:
        """Whether there are takes to be joined."""
        return next(self.joinable(), None) is not None

    def is_lost(self, call: ModelCall) -> bool:
        """Whether none of its takes would be of use any more."""
        return all(clip_of(self.task.spec, take) in self.lost for take in call.takes)

    def after(self, call: ModelCall, end: AttemptEnd, error: UpstreamError | None, left_s: float) -> "Stand":
        """Once a call has ended."""
        free = error is not None and error.fault in UNCOUNTED
        recited = error is not None and error.fault is AttemptFault.RECITATION and call.seed is not None
        lost = {clip_of(self.task.spec, take) for take in call.takes} if recited else set()
        task = replace(self.task, attempt_count=self.task.attempt_count + 1)
        moved = replace(
            self.progress,
            task=task,
            spent=self.progress.spent + (0 if free else 1),
            tried=self.progress.tried + 1,
            left_s=left_s,
        )
        stand = Stand(moved, (*self.takes, *end.takes), self.lost | lost)
        return stand.joined(end.clips) if end.clips else stand

    def joined(self, clips: tuple[Clip, ...]) -> "Stand":
        """Once clips are there."""
        there = tuple(sorted((*self.task.clips, *clips), key=lambda clip: clip.index))
        progress = replace(self.progress, task=replace(self.task, clips=there), stored=len(there))
        return replace(self, progress=progress)

    def _open(self) -> list[int]:
        there = {clip.index for clip in self.task.clips}
        return [index for index in range(self.task.spec.sample_count) if index not in there]

    def _takes_of(self, index: int) -> tuple[Take, ...]:
        spec = self.task.spec
        mine = [take for take in self.takes if clip_of(spec, take.number) == index]
        return tuple(sorted(mine, key=lambda take: take.number))

    def _missing_places(self, index: int) -> list[int]:
        """Those of the plan; and when what came is too short in the end, one more."""
        spec = self.task.spec
        takes = self._takes_of(index)
        have = {place_of(spec, take.number) for take in takes}
        missing = [place for place in range(spec.takes) if place not in have]
        if missing or spec.duration_s is None or enough([take.duration_s for take in takes], spec.duration_s):
            return missing
        return [max(have) + 1]
