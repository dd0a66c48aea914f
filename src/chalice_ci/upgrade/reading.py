"""Reads what the detectors look at: scripts and CI files, policies and recorded state.

The checkout may be a stranger's pull request: everything is bounded, no link is followed, and what
cannot be read is left out, for it is only looked through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chalice_ci.chalice_config import ChaliceConfig
from chalice_ci.config import AppConfig
from chalice_ci.graph import Loaded
from chalice_ci.package.requirements import read_requirements
from chalice_ci.source import read_source, read_text
from chalice_ci.upgrade.facts import AppFacts
from chalice_ci.upgrade.scripts import Script

MAX_SCRIPTS = 200
_FOLDERS = (".", ".github/workflows", ".circleci", ".buildkite", "scripts", "script", "bin", "ci")
_SCRIPT = re.compile(
    r"""(?:
        Makefile | makefile | GNUmakefile | Justfile | justfile | Jenkinsfile[\w.-]* | Procfile
        | (?:[\w.-]+\.)?Dockerfile[\w.-]* | Pipfile | tox\.ini | package\.json | [Tt]askfile\.ya?ml
        | [\w.-]+\.(?:sh|bash|mk|jenkinsfile)
        | \.gitlab-ci\.ya?ml | \.travis\.ya?ml | \.drone\.ya?ml | \.appveyor\.ya?ml
        | (?:azure-pipelines|bitbucket-pipelines|appveyor|cloudbuild)[\w.-]*\.ya?ml
        | build[_-]?spec[\w.-]*\.ya?ml
    )\Z""",
    re.VERBOSE,
)
_WORKFLOW = re.compile(r"[\w. -]+\.ya?ml\Z")
_STATES = (".chalice/deployed",)
_PRESENT = ("vendor",)
_APP_FILES = (".chalice/deployed.json", ".python-version")
_MAX_FILES = 200


@dataclass(frozen=True, kw_only=True)
class StageAsked:
    """A stage to look at: the Chalice and Python it is loaded with ("" when that is not known).

    `like` is the stage whose settings hold, when it is another one.
    """

    stage: str
    like: str | None = None
    chalice: str = ""
    python: str = ""
    region: str = ""
    loaded: Loaded | None = None


def read_facts(
    root: Path,
    app: AppConfig,
    stages: Iterable[StageAsked],
    *,
    config: ChaliceConfig | None,
    apps: tuple[AppConfig, ...],
) -> tuple[AppFacts, ...]:
    """The facts of an app of the repository at `root`, once for each stage.

    Of several `apps`, a script belongs to the one whose folder it is in, else to the first.
    """
    owner = {one.path: one for one in apps}
    scripts = tuple(
        script
        for script in read_scripts(root, tuple(one.path for one in apps))
        if _owner(script.file, owner, apps) in (None, app)
    )
    source, files = read_source(root, app.path), read_files(root, app.path)
    requirements = {
        entry.name: entry.at for entry in read_requirements(root / app.path, repo_root=root).entries
    }
    return tuple(
        AppFacts(
            source=source,
            stage=asked.stage,
            settings_stage=asked.like or asked.stage,
            scripts=scripts,
            config=config,
            files=files,
            requirements=requirements,
            chalice=asked.chalice,
            python=asked.python,
            region=asked.region,
            loaded=asked.loaded,
        )
        for asked in stages
    )


def _owner(
    file: str, by_path: Mapping[str, AppConfig], apps: tuple[AppConfig, ...]
) -> AppConfig | None:
    for folder in PurePosixPath(file).parents:
        found = by_path.get(folder.as_posix())
        if found is not None:
            return found
    return apps[0] if apps else None


def read_scripts(root: Path, app_paths: tuple[str, ...]) -> tuple[Script, ...]:
    """The scripts and CI files of a repository and of its apps, by path."""
    found: dict[str, Script] = {}
    for base in dict.fromkeys((".", *app_paths)):
        for folder in _FOLDERS:
            where = PurePosixPath(base) / folder
            names = _WORKFLOW if folder.startswith(".") and folder != "." else _SCRIPT
            for name in _names(root, where):
                file = (where / name).as_posix()
                if len(found) >= MAX_SCRIPTS:
                    break
                if file in found or not names.match(name):
                    continue
                text = read_text(root / file)
                if text is not None:
                    found[file] = Script(file=file, text=text)
    return tuple(found[file] for file in sorted(found))


def read_files(root: Path, app_path: str) -> Mapping[str, str]:
    """The files of an app that the detectors ask for, by their path in its folder."""
    app = PurePosixPath(app_path)
    found: dict[str, str] = {}
    wanted = list(_APP_FILES)
    for folder in _STATES:
        wanted += [f"{folder}/{name}" for name in _names(root, app / folder) if _is_json(name)]
    for name in _names(root, app / ".chalice"):
        if name.startswith("policy") and _is_json(name):
            # Policies are only looked for: what they allow is in the difference.
            found[f".chalice/{name}"] = ""
    for file in wanted[:_MAX_FILES]:
        text = None if _leaves(root, app / file) else read_text(root / app / file)
        if text is not None:
            found[file] = text
    for name in _PRESENT:
        if (root / app / name).is_dir():
            found[name] = ""
    return found


def _names(root: Path, folder: PurePosixPath) -> Iterator[str]:
    """The names in a folder of the repository, sorted; nothing when a link leads to it."""
    if _leaves(root, folder / "x"):
        return
    try:
        yield from sorted(path.name for path in (root / folder).iterdir())[:_MAX_FILES]
    except OSError:
        return


def _leaves(root: Path, file: PurePosixPath) -> bool:
    """Whether a folder on the way to the file is a link."""
    here = root
    for part in file.parts[:-1]:
        here = here / part
        if here.is_symlink():
            return True
    return False


def _is_json(name: str) -> bool:
    return name.endswith(".json")
