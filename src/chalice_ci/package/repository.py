"""The source of a commit in another repository, fetched without a work tree.

git gets a bare folder of its own, no configuration of the machine or the user, one protocol, and
the address through its environment: a command line can be read by every process. No hook, filter
or submodule has anything to run in, and the archive is of the commit's objects alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from chalice_ci.errors import PackageError
from chalice_ci.package.index import Origins
from chalice_ci.package.references import Reference
from chalice_ci.package.wheels import file_sha256
from chalice_ci.uv import masked

_SECONDS = 180
_MAX_BYTES = 512 * 1024 * 1024
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REVISION = re.compile(r"(?!-)(?!.*\.\.)[A-Za-z0-9._/+-]{1,200}")
_MACHINE = (
    *("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "HTTPS_PROXY", "HTTP_PROXY"),
    *("ALL_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "all_proxy", "no_proxy"),
)


def fetch_repository(
    reference: Reference, *, cache_dir: Path, environ: Mapping[str, str], origins: Origins
) -> tuple[Path, str, str]:
    """Have a commit's files as a tar archive: its path, its sha256, and the commit.

    Raises PackageError when it cannot be fetched, or the address is none with TLS.
    """
    parts = urlsplit(reference.address)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme != "https" and host not in origins.insecure:
        raise _failed(reference, "its address does not begin with https")
    revision = reference.revision or "HEAD"
    if not _REVISION.fullmatch(revision):
        raise _failed(reference, f"{revision[:80]!r} is no revision")
    folder = cache_dir / "sources"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".git-", dir=folder) as work:
        run = _Git(reference, Path(work), environ)
        run("init", "--quiet", "--bare", ".")
        run("fetch", "--quiet", "--depth", "1", "--no-tags", "origin", revision)
        commit = run("rev-parse", "--verify", "FETCH_HEAD^{commit}").strip()
        if _COMMIT.fullmatch(revision) and commit != revision:
            raise _failed(reference, "the server answered with another commit")
        archive = Path(work) / "source.tar"
        run("archive", "--format", "tar", "--prefix", "source/", "--output", str(archive), commit)
        if archive.stat().st_size > _MAX_BYTES:
            raise _failed(reference, "it is too large")
        sha256 = file_sha256(archive)
        archive.replace(folder / sha256)
    return folder / sha256, sha256, commit


class _Git:
    def __init__(self, reference: Reference, folder: Path, environ: Mapping[str, str]) -> None:
        self._reference = reference
        self._folder = folder
        settings = {
            "remote.origin.url": reference.address,
            "protocol.allow": "never",
            "protocol.https.allow": "always",
            "protocol.http.allow": "always",
            "http.followRedirects": "initial",
            "core.hooksPath": "/dev/null",
            "gc.auto": "0",
            "credential.helper": "",
        }
        self._environ = {name: environ[name] for name in _MACHINE if environ.get(name)}
        self._environ |= {
            "PATH": environ.get("PATH") or os.defpath,
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for number, (key, value) in enumerate(settings.items()):
            self._environ[f"GIT_CONFIG_KEY_{number}"] = key
            self._environ[f"GIT_CONFIG_VALUE_{number}"] = value

    def __call__(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise _failed(self._reference, "git is not on this machine") from error
        except subprocess.TimeoutExpired as error:
            raise _failed(self._reference, f"git did not finish within {_SECONDS} s") from error
        if done.returncode:
            said = masked(done.stderr[-2000:].decode("utf-8", "replace"))
            raise _failed(self._reference, " ".join(said.split())[:500])
        return done.stdout.decode("utf-8", "replace")


def _failed(reference: Reference, why: str) -> PackageError:
    return PackageError(
        f"the repository of {reference.shown} could not be fetched: {why}.",
        where=str(reference.at),
        fix="Look at the address, the revision and the rights to read it.",
    )
