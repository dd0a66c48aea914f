"""Runs Chalice's own packager where it can steal nothing: `package: {builder: chalice}`.

It collects the dependencies; the app's own files and Chalice's runtime are put beside them as ever.
Offline, pip finds exactly the wheels that were locked and fetched here. Where building from source
is allowed, it resolves and builds by itself, with the network but without any credential.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from chalice_ci.app.sandbox import Owner, Program, SandboxError, run_confined, sandbox_folder
from chalice_ci.app.wheel_builder import LIMITS, answer_of, take_file, why_it_failed
from chalice_ci.errors import PackageError
from chalice_ci.neutral import neutralise
from chalice_ci.package.target import Target
from chalice_ci.package.wheels import Fetched
from chalice_ci.uv import ca_file

_CHILD = Path(__file__).parent.parent / "child" / "chalice_ci_child" / "pack.py"
_START = "import sys; sys.path.insert(0, sys.argv[1]); import pack; del sys.path[0]; pack.main()"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_INDEX = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")


@dataclass(frozen=True, kw_only=True)
class ChalicePackager:
    """A `chalice_ci.package.foreign.Packager`.

    `python` has the app's Chalice and pip by hash, and can be run by others; `environ` is asked for
    certificates, proxies and the index, whose credentials stay here.
    """

    python: Path
    work_dir: Path
    environ: Mapping[str, str]
    network: bool
    confined: bool
    log: Callable[[str], None]

    def __call__(
        self,
        lines: Sequence[str],
        bounds: Sequence[str],
        wheels: Sequence[Fetched],
        *,
        target: Target,
        folder: Path,
    ) -> Path:
        """Collect dependencies; a zip of them in `folder`, of which nothing is known yet."""
        self.log("packaging with Chalice's own packager")
        owner = Owner()
        nonce = secrets.token_hex(16)
        with sandbox_folder(self.work_dir, owner) as home:
            child, brought, own = home / "child", home / "wheels", home / "own"
            for made in (child, brought):
                made.mkdir()
            copies = [(_CHILD, child / "pack.py")]
            copies += [(one.path, brought / one.wheel.filename) for one in wheels]
            for place, copy in copies:
                with place.open("rb") as original, copy.open("xb") as file:
                    shutil.copyfileobj(original, file)
                    owner.give(file.fileno(), executable=False)
            for made in (child, brought):
                owner.give_folder(made)
            owner.make_own(own)
            request = {
                "folder": str(own),
                "requirements": "".join(f"{line}\n" for line in lines),
                "constraints": "".join(f"{line}\n" for line in bounds),
                "abi": f"cp{target.python.replace('.', '')}",
                "architecture": target.architecture,
                "nonce": nonce,
            }
            program = Program(
                argv=(str(self.python), "-I", "-B", "-c", _START, str(child)),
                environ=self._environ(own, brought),
                cwd=own,
                folder=own,
                readable=(home, *self._readable()),
                network=self.network,
                confined=self.confined,
            )
            try:
                ended = run_confined(
                    program, json.dumps(request).encode(), owner=owner, limits=LIMITS
                )
            except SandboxError as error:
                raise PackageError(
                    "Chalice's packager was not run: nothing shuts it in here.",
                    where="package.builder",
                    fix=error.fix,
                ) from error
            output = neutralise(ended.output.decode("utf-8", "replace").replace(f"{own}/", ""))
            for line in output.splitlines():
                self.log(f"package| {line}")
            said = answer_of(ended, nonce)
            if said is not None and isinstance(said.get("missing"), list):
                names = ", ".join(neutralise(str(one))[:100] for one in said["missing"][:50])
                raise _failed(f"it has no wheel that runs in Lambda for {names}", network=True)
            if said is None or "error" in said:
                raise _failed(why_it_failed(ended, said, LIMITS), network=self.network)
            return take_file(own, "package.zip", folder, _unreadable)

    def _environ(self, own: Path, wheels: Path) -> dict[str, str]:
        environ = {
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(own),
            "TMPDIR": str(own),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "SOURCE_DATE_EPOCH": "315532800",
            "PYTHONHASHSEED": "0",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INPUT": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        if not self.network:
            return {**environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
        environ |= {
            name: _without_credentials(self.environ[name])
            for name in _PROXIES
            if self.environ.get(name)
        }
        index = next((self.environ[name] for name in _INDEX if self.environ.get(name)), "")
        if index:
            environ["PIP_INDEX_URL"] = _without_credentials(index)
        certificates = ca_file(self.environ)
        return environ if certificates is None else {**environ, "PIP_CERT": str(certificates)}

    def _readable(self) -> tuple[Path, ...]:
        prefixes = dict.fromkeys((self.python.parent.parent, self.python.resolve().parent.parent))
        parts = ("bin", "lib", "lib64", "include", "pyvenv.cfg")
        certificates = ca_file(self.environ) if self.network else None
        found = tuple(prefix / part for prefix in prefixes for part in parts)
        return found if certificates is None else (*found, certificates)


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _failed(why: str, *, network: bool) -> PackageError:
    offline = " It had no network: `build: true` lets it resolve and build by itself."
    return PackageError(
        f"Chalice's packager failed: {why}.{'' if network else offline}",
        where="package.builder",
        fix="Pin versions that have wheels, or take `builder: uv`, whose errors name the line.",
    )


def _unreadable(why: str) -> PackageError:
    return _failed(f"its result is not usable: {why}", network=True)
