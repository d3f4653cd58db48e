"""The machine that we run on."""

from pathlib import Path


def boot_id() -> str:
    """Name the machine's current boot, as well as this system can tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"
