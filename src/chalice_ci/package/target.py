"""Lambda's platforms: which wheels run there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags

# glibc of Lambda's runtimes: Amazon Linux 2, then Amazon Linux 2023; as Chalice's packager has it.
_GLIBC = {"3.10": (2, 26), "3.11": (2, 26)}
_NEWER_GLIBC = (2, 34)
_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
_LEGACY = {
    "x86_64": {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"},
    "aarch64": {17: "manylinux2014"},
}
_OLDEST = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the package runs: `python` is "3.12", `architecture` "x86_64" or "arm64"."""

    python: str
    architecture: str = "x86_64"

    @property
    def machine(self) -> str:
        """The architecture's name in wheel tags."""
        return _MACHINES[self.architecture]

    @property
    def glibc(self) -> tuple[int, int]:
        """The C library of Lambda's runtime."""
        return _GLIBC.get(self.python, _NEWER_GLIBC)

    @property
    def uv_platforms(self) -> tuple[str, ...]:
        """What uv is told, best first: it knows some C libraries only.

        Where the exact one is unknown, the next newer one is tried first, as it may name the newest
        version; when that has no wheel for the true one, the next older.
        """
        if self.glibc == (2, 34):
            return (f"{self.machine}-manylinux_2_34",)
        return (f"{self.machine}-manylinux_2_28", f"{self.machine}-manylinux_2_17")

    def tags(self) -> Iterator[Tag]:
        """The tags of wheels that run there, best first."""
        platforms: list[str] = []
        for minor in range(self.glibc[1], _OLDEST[self.machine] - 1, -1):
            platforms.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY[self.machine]:
                platforms.append(f"{_LEGACY[self.machine][minor]}_{self.machine}")
        platforms.append(f"linux_{self.machine}")
        major, minor = (int(part) for part in self.python.split("."))
        interpreter = f"cp{major}{minor}"
        yield from cpython_tags((major, minor), [interpreter], platforms)
        yield from compatible_tags((major, minor), interpreter, platforms)

    def marker_environment(self) -> dict[str, str]:
        """What the markers of a requirement see there."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": "",
        }
