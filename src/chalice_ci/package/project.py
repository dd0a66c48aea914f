"""The app's own files that go into a package, as Chalice chooses them.

`app.py`, `chalicelib/`, `vendor/` at the top level, and the two files of Chalice that run in
Lambda. Nothing outside the repository is read, whatever a link says, and nothing of git's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.errors import PackageError

# Loading writes byte code beside the sources; it is never the same twice.
_LEFT_OUT = "__pycache__"
# A submodule's link to its repository, or a clone's history.
_GIT = ".git"
_MAX_FILES = 60_000
_MAX_DEPTH = 60


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to compress: its `name` in the zip, its real `path`, whether it may be executed."""

    name: str
    path: Path
    executable: bool


@dataclass(frozen=True, kw_only=True)
class _Project:
    app_dir: Path
    root: Path

    def source(self, path: Path, name: str) -> Source:
        """The file, its link followed inside the repository only."""
        real = self.real(path)
        mode = real.stat().st_mode
        if not stat.S_ISREG(mode):
            raise PackageError(
                "only regular files can be packaged; this is a folder, a pipe or a device.",
                where=self.shown(path),
                fix="Remove it.",
            )
        return Source(
            name=_checked(name, self.shown(path)),
            path=real,
            executable=bool(mode & stat.S_IXUSR),
        )

    def real(self, path: Path) -> Path:
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise PackageError(
                "this link leads nowhere.",
                where=self.shown(path),
                fix="Remove it, or put the file there.",
            ) from error
        if not real.is_relative_to(self.root) or ".git" in real.relative_to(self.root).parts:
            raise PackageError(
                "this link leaves the project: what it points to would be published.",
                where=self.shown(path),
                fix="Put a copy of the file there.",
            )
        return real

    def has(self, folder: Path) -> bool:
        """Whether the folder is there; a link that leads nowhere is not the same as none."""
        return folder.is_dir() or (folder.is_symlink() and self.real(folder).is_dir())

    def shown(self, path: Path) -> str:
        try:
            name = path.relative_to(self.app_dir).as_posix()
        except ValueError:
            name = path.name
        return ascii(name)[1:-1][:200]

    def walk(self, top: Path, *, follow: bool) -> Iterator[tuple[Path, str]]:
        """Files below `top` with their names relative to it, sorted."""
        count = 0
        pending: list[tuple[Path, str, tuple[Path, ...]]] = [(top, "", ())]
        while pending:
            folder, prefix, above = pending.pop()
            real = self.real(folder)
            if real in above or len(above) > _MAX_DEPTH:
                raise PackageError(
                    "the folders below this one never end.",
                    where=self.shown(folder),
                    fix="Remove the link that points to a folder above it.",
                )
            with os.scandir(real) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                name = f"{prefix}{entry.name}"
                path = folder / entry.name
                if entry.name == _GIT:
                    continue
                if _is_folder(entry, follow=follow):
                    if entry.name != _LEFT_OUT:
                        pending.append((path, f"{name}/", (*above, real)))
                elif entry.is_symlink() and _is_folder(entry, follow=True):
                    # As Chalice: in chalicelib links to folders are not followed.
                    continue
                else:
                    count += 1
                    if count > _MAX_FILES:
                        raise PackageError(
                            f"there are more than {_MAX_FILES} files.",
                            where=self.shown(top),
                            fix="Take out what the app does not use.",
                        )
                    yield path, name


def app_sources(app_dir: Path, *, repo_root: Path, chalice_dir: Path) -> tuple[Source, ...]:
    """`app.py`, `chalicelib/` and Chalice's runtime files.

    Raises PackageError without an app.py, and for links, pipes and names that have no place in a
    package.
    """
    project = _Project(app_dir=app_dir, root=repo_root.resolve())
    main = app_dir / "app.py"
    if not main.exists() and not main.is_symlink():
        raise PackageError(
            "there is no app.py.",
            where=str(app_dir.name),
            fix="Let `path` in chalice-ci.yml name the folder that has app.py.",
        )
    sources = [project.source(main, "app.py")]
    library = app_dir / "chalicelib"
    if project.has(library):
        for path, name in project.walk(library, follow=False):
            sources.append(project.source(path, f"chalicelib/{name}"))
    sources += [
        Source(name=f"chalice/{name}", path=chalice_dir / name, executable=False)
        for name in ("__init__.py", "app.py")
    ]
    return tuple(sources)


def vendor_sources(app_dir: Path, *, repo_root: Path, prefix: str = "") -> tuple[Source, ...]:
    """What lies in `vendor/`, below `prefix`."""
    project = _Project(app_dir=app_dir, root=repo_root.resolve())
    vendor = app_dir / "vendor"
    if not project.has(vendor):
        return ()
    return tuple(
        project.source(path, f"{prefix}{name}") for path, name in project.walk(vendor, follow=True)
    )


def _is_folder(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        # A link to itself; whoever wants to read it is told.
        return False


def _checked(name: str, shown: str) -> str:
    try:
        name.encode("utf-8")
        plain = all(ord(character) >= 32 and ord(character) != 127 for character in name)
    except UnicodeEncodeError:
        plain = False
    if not plain or "\\" in name or len(name) > 1000:
        raise PackageError(
            "this name cannot be in a package.",
            where=shown,
            fix="Rename the file: no control characters, no backslash, valid UTF-8.",
        )
    return name
