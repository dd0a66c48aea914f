"""The deployers of one run: a child that did its job well is kept for the next job.

To start Python, import Chalice and read AWS's models takes longer than deploying a small app. A
deployer never holds anything of an app but the target of its current verb, so the apps and stages
of a run can share one where Chalice, Python and region are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from chalice_ci.app.deployer import DEFAULT_POLL_SECONDS, Deployer, Renew


class Deployers:
    """Lends deployers to one job at a time; a context manager that ends them all.

    `environ`, `work_dir` and `poll_seconds` are those of `Deployer.start`, for every child.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        work_dir: Path,
        *,
        poll_seconds: float = DEFAULT_POLL_SECONDS,
    ) -> None:
        self._environ = environ
        self._work_dir = work_dir
        self._poll_seconds = poll_seconds
        self._idle: dict[tuple[Path, str | None, str], list[Deployer]] = {}
        self._started = 0

    def expect(self, python: Path, region: str | None) -> None:
        """Start a deployer that will be lent soon, if none is idle: it imports meanwhile.

        It holds no credentials before it is used. Raises AWSError when it can't be started.
        """
        idle = self._idle.setdefault((python, region, ""), [])
        if not idle:
            idle.append(self._start(python, region))

    @contextlib.contextmanager
    def lent(
        self,
        python: Path,
        region: str | None,
        access: Mapping[str, str] | None = None,
        *,
        renew: Renew | None = None,
    ) -> Iterator[Deployer]:
        """Lend a deployer in that Python and region: an idle one, else a new one.

        `access` is the environment of a role in place of the usual one, `renew` gives it anew. A
        child has one identity only: it is lent again for the same credentials.
        One that failed, was stopped or has ended is not lent again. Raises AWSError when none can
        be started.
        """
        who = "" if access is None else access.get("AWS_ACCESS_KEY_ID", "")
        idle = self._idle.setdefault((python, region, who), [])
        deployer = self._sound(idle)
        if deployer is None and access is not None:
            deployer = self._blank(python, region) or self._start(python, region)
            deployer.furnish(access, region, renew)
        elif deployer is None:
            deployer = self._start(python, region)
        try:
            yield deployer
        except BaseException:
            deployer.close()
            raise
        if deployer.reusable:
            deployer.forget_output()
            idle.append(deployer)
        else:
            deployer.close()

    def _blank(self, python: Path, region: str | None) -> Deployer | None:
        """One that was started ahead and was given no credentials yet."""
        idle = self._idle.get((python, region, ""), [])
        blank = next((one for one in idle if not one.begun and one.reusable), None)
        if blank is not None:
            idle.remove(blank)
        return blank

    def _sound(self, idle: list[Deployer]) -> Deployer | None:
        while idle:
            deployer = idle.pop()
            if deployer.reusable:
                return deployer
            deployer.close()
        return None

    def _start(self, python: Path, region: str | None) -> Deployer:
        self._started += 1
        work_dir = self._work_dir / f"deployer-{self._started}"
        return Deployer.start(
            python,
            environ=self._environ,
            work_dir=work_dir,
            region=region,
            poll_seconds=self._poll_seconds,
        )

    def close(self) -> None:
        """End the children that are idle."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
