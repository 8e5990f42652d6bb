"""Audio into files: whole and as it was made, or not at all."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.client.model import ApiError, Clip


class Download:
    """A file that appears under its name once all of it is there and is what was promised."""

    def __init__(self, clip: Clip, path: Path) -> None:
        self._clip = clip
        self._path = path
        self._aside = path.with_name(f".{path.name}.part")
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file = self._aside.open("wb")
        return self

    def write(self, block: bytes) -> None:
        self._digest.update(block)
        self._file.write(block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises `ApiError` when it is not the clip."""
        self._file.close()
        whole = self._clip.sha256 in {"", self._digest.hexdigest()}
        if kind is None and whole:
            self._aside.replace(self._path)
            return
        self._aside.unlink(missing_ok=True)
        if kind is None:
            raise ApiError(0, {"code": "broken_download", "detail": f"{self._path} came broken; try again."})
