"""Which object names are taken: relative, '/'-separated, and safe as paths on any disk."""

from gateway.errors import StorageError

MAX_NAME_BYTES = 1024  # Cloud Storage's limit
MAX_SEGMENT_BYTES = 200  # leaves room for a suffix within the 255 that file systems allow
#: Marks the folder that holds an object on disk; no segment of a name may end with it.
OBJECT_SUFFIX = ".object"


def checked_name(name: str) -> str:
    """Return the name, or raise `StorageError` if it could leave its folder, hide, or break a header."""
    segments = name.split("/")
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES or not all(map(_is_safe, segments)):
        raise StorageError("The object name is not allowed.", internal=f"object name {name!r}")
    return name


def _is_safe(segment: str) -> bool:
    return (
        bool(segment)
        and not segment.startswith(".")
        and not segment.endswith(OBJECT_SUFFIX)
        and "\\" not in segment
        and segment.isprintable()
        and len(segment.encode(errors="replace")) <= MAX_SEGMENT_BYTES
    )
