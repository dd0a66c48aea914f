"""Making virtual environments: once, whole or not at all, and nothing of what is in them runs.

An environment has a key that says what is in it. It is looked for among those that the
installation brings (the image's, which nobody but root may write), then among the kept ones, and
is made only if it is in neither place. An environment may stand on another one: then it holds only
what that one has not, and both are found at import, its own first.

Nothing of what is installed runs here: no sdist is built, and once an environment is filled no
Python is started in it, because a `.pth` file of a dependency would run too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chalice_ci.cache import mark_used
from chalice_ci.errors import PackageError

if TYPE_CHECKING:
    from chalice_ci.app.pythons import Interpreter
    from chalice_ci.uv import Uv

FORMAT = 3
BROUGHT = Path(sys.prefix) / "share" / "chalice-ci"
"""What the installation itself brings, laid out as the cache folder; as trusted as our code."""

_RECORD = "chalice-ci.json"
_STANDS_ON = "_chalice_ci_stands_on.pth"
_COMPILE_SECONDS = 120
_MASK = 0o022


def site_packages(python: Path) -> Path:
    """The packages of a virtual environment, given its interpreter; nothing is run.

    Raises PackageError when that is no environment.
    """
    library = python.parent.parent / "lib"
    found = sorted(library.glob("python3.*/site-packages"))
    if not found:
        raise PackageError("this is not the interpreter of an environment.", where=str(python))
    return found[0]


def layers(python: Path) -> tuple[Path, ...]:
    """The folders of the environments that one stands on: a process in it must be able to read."""
    try:
        record = json.loads((python.parent.parent / _RECORD).read_text(encoding="utf-8"))
        return tuple(Path(folder) for folder in record.get("stands on", ()))
    except (OSError, ValueError, AttributeError, TypeError):
        return ()


def make_environment(
    key: str,
    interpreter: Interpreter,
    uv: Uv,
    cache_dir: Path,
    *,
    fill: Callable[[Path, Path], None],
    stands_on: Path | None = None,
    compiled: bool = True,
    brought: Path = BROUGHT,
) -> Path:
    """The interpreter of the environment `key`.

    `fill` gets the interpreter and a folder for its own files, and installs. `stands_on` is the
    interpreter of another environment of the same Python. Raises PackageError.
    """
    found = brought / "environments" / key
    if _is_whole(found, key):
        return found / "bin" / "python"
    folder = cache_dir / "environments"
    open_folder(cache_dir)
    open_folder(folder)
    target = folder / key
    executable = target / "bin" / "python"
    if _is_whole(target, key):
        return executable
    with _locked(folder / f".{key}.lock"):
        # Another process may have made it meanwhile.
        if _is_whole(target, key):
            return executable
        draft = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=folder))
        try:
            made = draft / "environment"
            uv.run(
                [
                    *("venv", "--quiet", "--no-project", "--python"),
                    *(str(interpreter.executable), str(made)),
                ],
                cwd=draft,
            )
            fill(made / "bin" / "python", draft)
            if stands_on is not None:
                _stand(made, stands_on)
            if compiled:
                _compile(made, interpreter.executable)
            _finish(made, interpreter, key, stands_on)
            if target.exists():
                target.rename(draft / "broken")
            made.rename(target)
        except OSError as error:
            raise PackageError(
                f"an environment could not be made: {error.strerror or error}.",
                where=str(folder),
                fix="Look at the free space and the rights of the cache folder (--cache-dir).",
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return executable


def forget_environment(python: Path) -> None:
    """Let an environment, given its interpreter, be made anew when it is wanted next."""
    (python.parent.parent / _RECORD).unlink(missing_ok=True)


def _stand(made: Path, below: Path) -> None:
    """Let what is in another environment be found too, after what is in this one.

    As a folder of packages with `.pth` files of its own: setuptools has one.
    """
    packages = site_packages(below)
    line = f"import site; site.addsitedir({str(packages)!r})\n"
    path = site_packages(made / "bin" / "python") / _STANDS_ON
    path.write_text(line, encoding="utf-8")
    path.chmod(0o644)


def _finish(made: Path, interpreter: Interpreter, key: str, stands_on: Path | None) -> None:
    """Take out what is never used, and write the record that makes it whole."""
    for script in (made / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()
    # uv's lock is writable by everybody.
    (made / ".lock").unlink(missing_ok=True)
    below = () if stands_on is None else (stands_on.parent.parent, *layers(stands_on))
    record = {
        "format": FORMAT,
        "key": key,
        "python": interpreter.version,
        "stands on": [str(folder) for folder in below],
    }
    (made / _RECORD).write_text(json.dumps(record), encoding="utf-8")
    (made / _RECORD).chmod(0o644)
    made.chmod(0o755)


# Chalice depends on them and nobody imports them here: two thirds of all text.
_NOT_IMPORTED = (
    r"/site-packages/(pip|setuptools|_distutils_hack|wheel|inquirer|blessed|jinxed|wcwidth)/"
)


def _compile(made: Path, python: Path) -> None:
    """Compile what was installed, so that loads are fast: who loads may not write here.

    With the base interpreter and `-S`, so that no `.pth` file of the environment is obeyed. Files
    that do not compile (other syntaxes are shipped at times) stay as they are. What comes out
    depends on the sources alone: Python puts the true path in when it imports.
    """
    command = [
        *(str(python), "-I", "-S", "-m", "compileall", "-qq", "-j", "2", "-x", _NOT_IMPORTED),
        *("--invalidation-mode", "unchecked-hash", "-s", str(made)),
        *(str(path) for path in made.iterdir() if path.is_dir() and path.name != "bin"),
    ]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            command,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            cwd=made,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_COMPILE_SECONDS,
            umask=_MASK,
            check=False,
        )


def _is_whole(target: Path, key: str) -> bool:
    """Whether the environment is there, and what it stands on too."""
    try:
        record = json.loads((target / _RECORD).read_text(encoding="utf-8"))
        wanted = (target, *(Path(folder) for folder in record["stands on"]))
        whole = record["key"] == key and all((one / "bin" / "python").exists() for one in wanted)
        if whole:
            # Where the image brings it, nothing is written.
            mark_used(*(one for one in wanted if not one.is_relative_to(BROUGHT)))
        return whole
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_folder(folder: Path, mode: int = 0o755) -> None:
    """Make a folder with exactly these rights, whatever the umask is; an existing one stays."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def digest(*parts: str) -> str:
    """The key of something that is made from these parts."""
    joined = "\0".join(re.sub("\0", "", part) for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:32]
