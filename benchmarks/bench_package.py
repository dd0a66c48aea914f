"""`chalice-ci package` against `chalice package`: paired in one run, medians of whole processes.

    python benchmarks/bench_package.py [--app a] [--runs 5] [--python PATH] [--json FILE] [--check]

Apps: a without dependencies, b with requests, c with requests, pydantic, SQLAlchemy, numpy and
boto3, all pinned. The floors come from measurements of apps that import none of it while they are
loaded, so a, b and c do not either; i is c importing all of it at its top, which both tools have to
wait for, and has no floors. Situations:

- cold: the app's environment is there, as Chalice's virtual environment is; nothing that packaging
  itself fetches or keeps is: no wheels, no locks, no caches of pip and uv.
- wheels: the wheels are there and app.py was edited, as on most commits; our archive of the
  dependencies is not.
- archive: everything is there and app.py was edited.
- unchanged: everything is there and nothing was edited.
- new machine: not even the environments. Chalice makes a virtual environment, installs itself and
  the requirements, and packages; chalice-ci starts with an empty cache folder.

The tools take turns, and who begins alternates. Memory is that of one more run, whose time does not
count: to look at it slows whatever uses both cores. Each run is checked: it ended well, and the
members of Chalice's zip and ours have the same names and checksums. Beside them stands what `uv pip
install --target` and a plain zip take: no load, no check, no template, other bytes. `--check` fails
below the floors.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measure import Cost, measure

CHALICE = "1.34.0"
REQUIREMENTS = {
    "a": "",
    "b": "requests==2.32.5\n",
    "c": (
        "requests==2.32.5\npydantic==2.11.10\nsqlalchemy==2.0.44\nnumpy==2.2.6\nboto3==1.40.61\n"
    ),
}
REQUIREMENTS["i"] = REQUIREMENTS["c"]
IMPORTS = dict.fromkeys("abc", "json") | {"i": "boto3, numpy, pydantic, requests, sqlalchemy"}
SITUATIONS = ("cold", "wheels", "archive", "unchanged", "new machine")
TOOLS = ("chalice", "chalice-ci", "uv + zip")
# How many times as fast as Chalice; by app and situation.
FLOORS: dict[str, dict[str, float]] = {
    "a": {"cold": 1 / 1.1, "wheels": 1 / 1.1, "archive": 1 / 1.1},
    "b": {"cold": 2.0, "wheels": 3.0, "archive": 4.0},
    "c": {"cold": 8.0, "wheels": 15.0, "archive": 24.0},
    "i": {},
}
MAX_ZIP = 1.01
# What `chalice-ci` keeps of packaging, below its cache folder; the rest are environments.
_PACKAGING = ("wheels", "locks", "archives", "uv")
# The zip of the whole folder, as one would write it in a script.
_ZIP = """
import pathlib, sys, zipfile
folder, project, target = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write(project / "app.py", "app.py")
    for path in sorted(folder.rglob("*")):
        archive.write(path, path.relative_to(folder))
"""
# What the machine's CI or a deploy would set must not change what is measured.
_DROPPED = ("AWS_", "GITHUB_", "CHALICE_CI_", "INPUT_", "ACTIONS_")


class Failed(Exception):
    """A run ended with an error, or the zips differ."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run of one tool."""

    app: str
    situation: str
    tool: str
    wall: float
    cpu: float
    peak: int
    zip_bytes: int
    memory: bool
    """Whether it was for the memory only."""


@dataclass(kw_only=True)
class Side:
    """One tool's copy of a project and its caches."""

    tool: str
    app: str
    root: Path
    python: Path
    memory: bool = True

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def zip(self) -> Path:
        found = sorted((self.root / "out").rglob("deployment.zip"))
        if len(found) != 1:
            raise Failed(f"{self.tool} wrote {len(found)} deployment.zip")
        return found[0]

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
        caches = self.root / "caches"
        return kept | {
            "PIP_CACHE_DIR": str(caches / "pip"),
            "UV_CACHE_DIR": str(caches / "uv"),
            "XDG_CACHE_HOME": str(caches / "xdg"),
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def forget(self, *, environment: bool) -> None:
        """Throw away what the tool kept."""
        kept = self.root / "caches"
        for name in ("pip", "uv", "xdg", *(f"own/{part}" for part in _PACKAGING)):
            shutil.rmtree(kept / name, ignore_errors=True)
        shutil.rmtree(self.project / ".chalice" / "deployments", ignore_errors=True)
        if environment:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.rmtree(self.root / "venv", ignore_errors=True)

    def forget_archive(self) -> None:
        """Throw away the dependencies as one archive, and what else was made of the wheels."""
        shutil.rmtree(self.root / "caches/own/archives", ignore_errors=True)

    def edit(self, number: int) -> None:
        """Change app.py, as a commit does."""
        path = self.project / "app.py"
        path.write_text(path.read_text().rpartition("# edit")[0] + f"# edit {number}\n")

    def set_up(self) -> Iterator[Cost]:
        """Chalice's own environment, as its users make it."""
        venv = self.root / "venv"
        yield self.ran([str(self.python), "-m", "venv", str(venv)])
        requirements = str(self.project / "requirements.txt")
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet"]
        yield self.ran([*pip, f"chalice=={CHALICE}", "-r", requirements])

    def package(self) -> Cost:
        out = self.root / "out"
        shutil.rmtree(out, ignore_errors=True)
        if self.tool == "uv + zip":
            return self.installed_and_zipped(out)
        if self.tool == "chalice":
            return self.ran(
                [str(self.root / "venv/bin/chalice"), "package", "--stage", "dev", str(out)]
            )
        return self.ran(
            [
                *(sys.executable, "-m", "chalice_ci", "package", "--stage", "dev"),
                *("--project-dir", str(self.project), "--out", str(out)),
                *("--cache-dir", str(self.root / "caches/own"), "--python-path", str(self.python)),
            ]
        )

    def installed_and_zipped(self, out: Path) -> Cost:
        """What a script without any tool for Chalice does."""
        out.mkdir()
        install = [
            *(str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet"),
            *("--python", str(self.python), "--only-binary", ":all:"),
            *("--target", str(out / "files"), "-r", str(self.project / "requirements.txt")),
        ]
        folders = [str(out / "files"), str(self.project), str(out / "deployment.zip")]
        return together(self.ran(install), self.ran([str(self.python), "-I", "-c", _ZIP, *folders]))

    def ran(self, command: list[str]) -> Cost:
        cost = measure(command, env=self.environ, cwd=self.project, memory=self.memory)
        if cost.code != 0:
            raise Failed(f"{' '.join(command)} ended with {cost.code}:\n{cost.output[-4000:]}")
        if "Could not install dependencies" in cost.output:
            raise Failed(f"{self.tool} left dependencies out:\n{cost.output[-2000:]}")
        return cost


def together(*costs: Cost) -> Cost:
    """What one command after the other costs."""
    return Cost(
        wall=sum(cost.wall for cost in costs),
        cpu=sum(cost.cpu for cost in costs),
        peak=max(cost.peak for cost in costs),
        code=max(cost.code for cost in costs),
        output="".join(cost.output for cost in costs),
    )


def make_side(tool: str, app: str, root: Path, python: Path) -> Side:
    side = Side(tool=tool, app=app, root=root, python=python)
    folder = side.project / ".chalice"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"version": "2.0", "app_name": f"bench-{app}", "stages": {"dev": {}}}, indent=2)
    )
    (side.project / "requirements.txt").write_text(REQUIREMENTS[app])
    (side.project / "app.py").write_text(
        f"import {IMPORTS[app]}\n\nfrom chalice import Chalice\n\n"
        f'app = Chalice(app_name="bench-{app}")\n\n\n'
        '@app.route("/")\ndef index():\n    return {"hello": "world"}\n\n\n# edit 0\n'
    )
    return side


def act(side: Side, situation: str, number: int) -> Cost:
    """What has to be done in a situation; every part of it counts."""
    match situation:
        case "new machine":
            side.forget(environment=True)
            set_up = side.set_up() if side.tool == "chalice" else ()
            return together(*set_up, side.package())
        case "cold":
            side.forget(environment=False)
        case "wheels":
            side.forget_archive()
            side.edit(number + 1)
        case "archive":
            side.edit(100 + number)
    return side.package()


def bench(
    app: str, *, runs: int, python: Path, root: Path, situations: Sequence[str]
) -> Iterator[Run]:
    """All situations of one app, in the order in which each leaves what the next one needs."""
    sides = [make_side(tool, app, root / tool.replace(" ", ""), python) for tool in TOOLS]
    for side in sides:
        # The environments, which do not count but in the last situation.
        act(side, "new machine", 0)
    for situation in situations:
        for number in range(runs + 1):
            for side in sides if number % 2 == 0 else sides[::-1]:
                side.memory = number == runs
                # What the other one wrote is not this one's to wait for.
                os.sync()
                cost = act(side, situation, number)
                yield Run(
                    app=app,
                    situation=situation,
                    tool=side.tool,
                    wall=cost.wall,
                    cpu=cost.cpu,
                    peak=cost.peak,
                    zip_bytes=side.zip.stat().st_size,
                    memory=side.memory,
                )
            compare(*(side.zip for side in sides[:2]))


def compare(chalices: Path, ours: Path) -> None:
    """Raise Failed unless both zips hold the same files."""
    members = []
    for path in (chalices, ours):
        with zipfile.ZipFile(path) as archive:
            members.append({i.filename: i.CRC for i in archive.infolist() if not i.is_dir()})
    differing = sorted(dict(members[0].items() ^ members[1].items()))
    if differing:
        raise Failed(f"the zips differ in {len(differing)} members: {', '.join(differing[:10])}")


def table(runs: list[Run]) -> Iterator[str]:
    """Medians, and how many times as fast chalice-ci is."""
    yield (
        f"{'app':4}{'situation':13}{'tool':12}{'wall s':>8}{'(range)':>16}{'CPU s':>8}"
        f"{'peak MB':>9}{'zip kB':>9}{'faster':>9}"
    )
    for app, situation in dict.fromkeys((run.app, run.situation) for run in runs):
        walls = {}
        for tool in TOOLS:
            own = [r for r in runs if (r.app, r.situation, r.tool) == (app, situation, tool)]
            timed = [run for run in own if not run.memory]
            wall = [run.wall for run in timed]
            walls[tool] = statistics.median(wall)
            faster = "" if tool == "chalice" else f"{walls['chalice'] / walls[tool]:.2f}x"
            spread = f"({min(wall):.2f}-{max(wall):.2f})"
            yield (
                f"{app:4}{situation:13}{tool:12}{walls[tool]:8.2f}{spread:>16}"
                f"{statistics.median(run.cpu for run in timed):8.2f}"
                f"{max(run.peak for run in own if run.memory) / 1e6:9.0f}"
                f"{statistics.median(run.zip_bytes for run in own) / 1e3:9.0f}{faster:>9}"
            )


def worse(runs: list[Run]) -> Iterator[str]:
    """Where chalice-ci does not hold its floor."""
    for app, situation in dict.fromkeys((run.app, run.situation) for run in runs):
        theirs, ours = (
            [r for r in runs if (r.app, r.situation, r.tool) == (app, situation, tool)]
            for tool in TOOLS[:2]
        )
        floor = FLOORS[app].get(situation, 1 / 1.1)
        ratio = _wall(theirs) / _wall(ours)
        if ratio < floor:
            yield f"{app}, {situation}: {ratio:.2f}x of {floor:.2f}x"
        for what, limit in (("zip_bytes", MAX_ZIP), ("peak", 1.0)):
            first, second = (max(getattr(r, what) for r in s if r.memory) for s in (ours, theirs))
            if first > limit * second:
                yield f"{app}, {situation}: {what} {first} against {second}"


def _wall(runs: list[Run]) -> float:
    return statistics.median(run.wall for run in runs if not run.memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--app", action="append", choices=sorted(REQUIREMENTS))
    parser.add_argument("--situation", action="append", choices=SITUATIONS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of the apps")
    parser.add_argument("--json", type=Path, help="write every run there")
    parser.add_argument("--check", action="store_true", help="fail below the floors")
    options = parser.parse_args()
    _compile_ours()
    runs: list[Run] = []
    try:
        for app in options.app or sorted(REQUIREMENTS):
            with tempfile.TemporaryDirectory(prefix="bench-package-") as root:
                # A child on a user of its own must be able to reach the project.
                Path(root).chmod(0o711)
                measured = bench(
                    app,
                    runs=options.runs,
                    python=options.python,
                    root=Path(root),
                    situations=options.situation or SITUATIONS,
                )
                for run in measured:
                    runs.append(run)
                    print(
                        f"{run.app} {run.situation:12} {run.tool:11} {run.wall:6.2f} s",
                        file=sys.stderr,
                    )
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        if runs:
            print(f"{os.cpu_count()} CPUs, {platform.platform()}, {options.runs} runs, medians")
            print("\n".join(table(_complete(runs))))
        if options.json:
            options.json.write_text(json.dumps([asdict(run) for run in runs], indent=2) + "\n")
    problems = list(worse(runs))
    for problem in problems:
        print(f"below the floor: {problem}")
    return 1 if problems and options.check else 0


def _compile_ours() -> None:
    """As an installer does: a checkout may have been edited, and may not keep what it compiles."""
    spec = importlib.util.find_spec("chalice_ci")
    for folder in spec.submodule_search_locations or () if spec else ():
        compileall.compile_dir(folder, quiet=2)


def _complete(runs: list[Run]) -> list[Run]:
    """The runs of situations that all tools have finished."""
    seen = {(run.app, run.situation, run.tool) for run in runs if run.memory}
    return [r for r in runs if all((r.app, r.situation, tool) in seen for tool in TOOLS)]


if __name__ == "__main__":
    sys.exit(main())
