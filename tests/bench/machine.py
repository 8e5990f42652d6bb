"""What a process used, and what machine it used it on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

MIB = 1 << 20
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - memory is what is wanted
_OURS = ("starlette", "uvicorn", "uvloop", "httptools", "httpx", "sqlalchemy", "pydantic")


def cpu_s(pid: int) -> float:
    """Seconds of processor time used so far, all threads."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def rss_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / MIB)


def peak_rss_mib(pid: int) -> float:
    """The most since the process began, or since `forget_peak`: VmHWM of proc(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not tell VmHWM")


def forget_peak(pid: int) -> None:
    """Let `peak_rss_mib` start again from what is held now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def memory_directory() -> Path | None:
    """A directory that is memory, where there is one."""
    return _SHARED_MEMORY if _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK) else None


def load_average() -> float:
    return os.getloadavg()[0]


def describe() -> str:
    """The set-up that every figure is printed with."""
    versions = ", ".join(f"{name} {version(name)}" for name in _OURS)
    memory_gib = psutil.virtual_memory().total / (1 << 30)
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB, {platform.system()} "
        f"{platform.release().split('-')[0]}, load average {load_average():.1f} at start; "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
