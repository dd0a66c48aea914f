"""Running uv: found once, in a clean environment, without any configuration file, within bounds.

uv resolves and downloads while credentials for an index may be near, so nothing of a project may
decide what it does: it gets normalised requirements and options of ours, never a project's file,
and it never builds anything: `--only-binary :all:` is on every command that could, and where a
source distribution is looked for, its metadata are given beforehand.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chalice_ci.cache import mark_used
from chalice_ci.errors import PackageError

# Python 3.11 shows other threads a table of sysconfig that is still being filled, and uv would not
# be found.
_FINDING = threading.Lock()

_MAX_OUTPUT = 200_000
_SECONDS = 300

# Trust, proxies and timeouts of the machine.
_MACHINE = (
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
    "UV_HTTP_TIMEOUT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)
# Where packages come from, as the machine's operator says; never what a project says.
_REPLACED_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
_INDEX = (
    *_REPLACED_INDEX,
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST",
    "NETRC",
)
_NAMED_INDEX_CREDENTIAL = re.compile(r"UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)")
_MARK = re.compile(r"^(error|cause): ", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_NETWORK = re.compile(
    r"error sending request|dns error|failed to (fetch|download)|connection (refused|reset|closed)"
    r"|timed? ?out|network|invalid peer certificate|5\d\d (internal|bad|service|gateway)"
    r"|failed to lookup address",
    re.IGNORECASE,
)
# What uv says when there is no solution, whatever it could not fetch on the way.
_UNSOLVED = re.compile(r"no solution found", re.IGNORECASE)


class UvFailed(PackageError):
    """uv ended with an error; `output` is what it said, without credentials."""

    def __init__(self, what: str, *, output: str = "", fix: str = "") -> None:
        super().__init__(what, where="uv", fix=fix)
        self.output = output


class NoSolution(UvFailed):
    """The requirements contradict each other, or something has no wheel for the platform."""


class Unreachable(UvFailed):
    """The package index could not be reached."""


class TookTooLong(UvFailed):
    """It did not finish in time: no answer from an index, or too many versions to try."""


@dataclass(frozen=True, kw_only=True)
class Uv:
    """uv with its cache and the environment that its commands get.

    It is looked for, as installed beside this package, else on `path`, when it is first needed.
    """

    path: str
    cache_dir: Path
    environ: Mapping[str, str]

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        seconds: float = _SECONDS,
        settings: Path | None = None,
    ) -> str:
        """Run one command; the answer is its standard output.

        `settings` is a uv.toml of ours; there is never another one.
        Raises NoSolution, Unreachable, TookTooLong or UvFailed; each tells what uv said.
        """
        self.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark_used(self.cache_dir)
        config = ("--no-config",) if settings is None else ("--config-file", str(settings))
        command = [_executable(self.path), *config, "--color", "never", *arguments]
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**self.environ, "UV_CACHE_DIR": str(self.cache_dir)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                umask=0o022,
                start_new_session=True,
            )
        except OSError as error:
            raise UvFailed(
                f"uv could not be started: {error.strerror or error}.",
                fix="Install chalice-ci again: it brings uv.",
            ) from error
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise TookTooLong(
                f"uv did not finish within {seconds:.0f} s.",
                fix="Look at the connection to the package index, or pin more versions.",
            ) from error
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        said = masked(err[:_MAX_OUTPUT].decode("utf-8", "replace")).strip()
        if process.returncode == 0:
            return out.decode("utf-8", "replace")
        if _UNSOLVED.search(said):
            raise NoSolution(_first(said), output=said)
        if _NETWORK.search(said):
            raise Unreachable(
                f"the package index could not be reached: {_first(said)}",
                output=said,
                fix="Look at the connection, the proxy (HTTPS_PROXY) and the certificates "
                "(SSL_CERT_FILE), and run again.",
            )
        raise UvFailed(_first(said) or f"uv ended with code {process.returncode}.", output=said)


def find_uv(environ: Mapping[str, str], *, cache_dir: Path, index: bool) -> Uv:
    """Describe uv in a clean environment.

    With `index`, the operator's own index settings and their credentials are handed on; without,
    only an index that stands in for the public one (a mirror): what is installed then is known by
    its hash.
    """
    return Uv(
        path=environ.get("PATH", os.defpath),
        cache_dir=cache_dir,
        environ=clean_environ(environ, home=cache_dir, index=index),
    )


def clean_environ(environ: Mapping[str, str], *, home: Path, index: bool) -> dict[str, str]:
    """What uv may know of the environment: an allow-list, and settings of ours."""
    allowed = (*_MACHINE, *(_INDEX if index else _REPLACED_INDEX))
    clean = {name: environ[name] for name in allowed if environ.get(name)}
    clean.setdefault("PATH", os.defpath)
    if "SSL_CERT_FILE" not in clean:
        certificates = ca_file(environ)
        if certificates is not None:
            clean["SSL_CERT_FILE"] = str(certificates)
    if not any(name in clean for name in _REPLACED_INDEX) and environ.get("PIP_INDEX_URL"):
        clean["UV_DEFAULT_INDEX"] = environ["PIP_INDEX_URL"]
    if index:
        clean.update({k: v for k, v in environ.items() if _NAMED_INDEX_CREDENTIAL.fullmatch(k)})
        if environ.get("PIP_EXTRA_INDEX_URL") and "UV_EXTRA_INDEX_URL" not in clean:
            clean["UV_EXTRA_INDEX_URL"] = environ["PIP_EXTRA_INDEX_URL"]
        netrc = Path(environ.get("HOME") or "/nonexistent") / ".netrc"
        if "NETRC" not in clean and os.access(netrc, os.R_OK):
            clean["NETRC"] = str(netrc)
    clean.update(
        HOME=str(home),
        LC_ALL="C.UTF-8",
        NO_COLOR="1",
        UV_NO_PROGRESS="1",
        UV_PYTHON_DOWNLOADS="never",
        UV_KEYRING_PROVIDER="disabled",
    )
    return clean


def ca_file(environ: Mapping[str, str]) -> Path | None:
    """The certificates that this machine trusts: as told, else the system's; None: unknown."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE"):
        if environ.get(name):
            return Path(environ[name])
    # Late: most machines say where they are, and to import it takes a while.
    import ssl

    paths = ssl.get_default_verify_paths()
    system = (paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem")
    return next((Path(name) for name in system if Path(name).is_file()), None)


def masked(text: str) -> str:
    """`text` without the user name and password of any URL."""
    return _USERINFO.sub("****@", text)


def _executable(path: str) -> str:
    # A missing one is told by the command that needs it.
    return _bundled() or shutil.which("uv", path=path) or "uv"


def _bundled() -> str | None:
    try:
        with _FINDING:
            from uv import find_uv_bin

            return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None


def _first(said: str) -> str:
    """The message of uv without its marks, on few lines."""
    told: list[str] = []
    for line in said.splitlines():
        text = _MARK.sub("", line.strip(" \t│╰▶─×"))
        if text.startswith("hint:"):
            break
        if text and not text.startswith("warning:") and not _UNSOLVED.match(text):
            told.append(text)
    text = " ".join(told)
    return text if len(text) <= 1500 else f"{text[:1500]}…"
