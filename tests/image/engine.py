"""A Docker engine to build and run images with: the machine's own, else one that is started here.

An engine of ours needs root, `dockerd` and, where no registry answers, `mmdebstrap`; it has no
bridge and changes nothing on the machine's network: containers share the host's. Its data stays in
the folder that is given, so the second start finds what the first one built.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BASE = "docker.io/library/python:3.13-slim-trixie"
IMPORTED = "localhost/python-base"
_START_SECONDS = 30
_STOP_SECONDS = 30
# How long to wait for the engine of another run of the tests on this machine.
_TURN_SECONDS = 900
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# Debian's own Docker has BuildKit in the client; a newer client without buildx has not.
_CLIENTS = ("/usr/bin/docker", "docker")
_RUNNING: set[Path] = set()
"""Where this process has an engine: it would wait for itself for ever."""


class EngineError(Exception):
    """The engine, or what it was asked for, did not work; the text says what it said."""


class NoEngine(EngineError):
    """There is no engine here and none can be started."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that answers. `network` is what `build` and `run` need for a network."""

    docker: Path
    socket: Path
    network: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        """The command line of the client, for this engine."""
        return [str(self.docker), "--host", f"unix://{self.socket}", *arguments]

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The client's own environment; `docker run -e NAME` reads from it."""
        own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"}
        return {**own, **(more or {}), "DOCKER_BUILDKIT": "1"}

    def ask(self, *arguments: str, seconds: float = 60, data: bytes | None = None) -> str:
        """What the engine answers; raises EngineError with what it said instead."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environ(),
            input=data,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        said = done.stdout.decode("utf-8", "replace")
        if done.returncode != 0:
            problem = (said + done.stderr.decode("utf-8", "replace"))[-6000:]
            raise EngineError(f"docker {' '.join(arguments)}: {problem}")
        return said

    def run(self, *arguments: str, seconds: float = 60) -> str:
        """What `docker run` prints; a container that takes longer is ended, not left behind."""
        name = container_name()
        try:
            return self.ask("run", "--rm", "--name", name, *arguments, seconds=seconds)
        except subprocess.TimeoutExpired:
            self.kill(name)
            raise

    def kill(self, *containers: str) -> None:
        """End containers, those that have ended already too."""
        with contextlib.suppress(EngineError, subprocess.TimeoutExpired):
            self.ask("rm", "--force", *containers, seconds=60)

    def kill_all(self, matching: str) -> None:
        """End the containers that a filter of `docker ps` finds."""
        found = self.ask("ps", "--all", "--quiet", "--filter", matching).split()
        if found:
            self.kill(*found)

    def has(self, image: str) -> bool:
        """Whether the image is here."""
        with contextlib.suppress(EngineError):
            self.ask("image", "inspect", image)
            return True
        return False

    def build(self, context: Path, *, target: str, tag: str, arguments: Mapping[str, str]) -> float:
        """Build a stage of the Dockerfile in `context`; the seconds that it took."""
        started = time.monotonic()
        given = [part for name, value in arguments.items() for part in _argument(name, value)]
        self.ask(
            *("build", "--progress", "plain", *self.network, *given),
            *("--target", target, "--tag", tag, str(context)),
            seconds=1200,
        )
        return time.monotonic() - started

    def base(self, cache: Path) -> str:
        """The image that ours is built from: the official one, else the same made from Debian."""
        if self.has(BASE):
            return BASE
        recipe = _recipe()
        image = f"{IMPORTED}:{recipe.key}"
        if self.has(image):
            return image
        archive = cache / f"python-base-{recipe.key}.tar"
        if not archive.exists():
            # Without a network the daemon may try for long.
            with contextlib.suppress(EngineError, subprocess.TimeoutExpired):
                self.ask("pull", "--quiet", BASE, seconds=60)
                return BASE
            recipe.make(archive)
        path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        changes = ("--change", f"ENV PATH={path}", "--change", 'CMD ["python3"]')
        self.ask("import", *changes, str(archive), image, seconds=300)
        return image


def container_name() -> str:
    """A name by which a container can be ended, whatever became of the client."""
    return f"chalice-ci-{uuid.uuid4().hex}"


def _argument(name: str, value: str) -> tuple[str, str]:
    return "--build-arg", f"{name}={value}"


@contextlib.contextmanager
def engine(cache: Path) -> Iterator[Engine]:
    """The machine's engine, or one that lives as long as the block; its data is kept in `cache`.

    Raises NoEngine, with what is missing.
    """
    machine = _machine_engine()
    if machine is not None:
        yield machine
        return
    missing = [name for name in ("dockerd", "docker") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise NoEngine(
            f"no Docker engine runs, and without {missing or 'root'} none can be started"
        )
    if cache in _RUNNING:
        raise NoEngine(f"this process already has an engine in {cache}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "engine.lock").open("w") as lock:
        # Two daemons on one folder destroy it: the second user waits.
        _take_turn(lock)
        _RUNNING.add(cache)
        try:
            with _own_engine(cache / "engine") as own:
                yield own
        finally:
            _RUNNING.discard(cache)


def _take_turn(lock: IO[str]) -> None:
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise NoEngine(
                    f"another run of the tests has kept {lock.name} for {_TURN_SECONDS} s"
                ) from None
        time.sleep(0.5)


def _machine_engine() -> Engine | None:
    socket = Path("/var/run/docker.sock")
    client = _client()
    if client is None or not socket.exists():
        return None
    found = Engine(docker=client, socket=socket)
    with contextlib.suppress(EngineError, subprocess.TimeoutExpired):
        found.ask("info", seconds=10)
        return found
    return None


def _client() -> Path | None:
    found = (shutil.which(name) for name in _CLIENTS)
    return next((Path(path) for path in found if path), None)


@contextlib.contextmanager
def _own_engine(data: Path) -> Iterator[Engine]:
    client = _client()
    assert client is not None
    # Short, because sockets are made below it.
    folder = Path(tempfile.mkdtemp(prefix="ce-"))
    log = folder / "log"
    options = {
        "data-root": data,
        "exec-root": folder / "x",
        "pidfile": folder / "pid",
        "host": f"unix://{folder / 's'}",
        "bridge": "none",
        "iptables": "false",
        "ip6tables": "false",
        "ip-forward": "false",
    }
    command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
    guard = shutil.which("setpriv")
    with log.open("wb") as sink:
        daemon = subprocess.Popen(
            # However the tests end, the daemon ends too.
            [guard, "--pdeathsig", "TERM", *command] if guard else command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    found = Engine(docker=client, socket=folder / "s", network=("--network", "host"))
    try:
        _wait(found, daemon, log)
        # What earlier runs built, and later ones replaced.
        found.ask("image", "prune", "--force", seconds=120)
        yield found
    finally:
        _stop(daemon)
        for place in sorted(folder.glob("x/netns/*")):
            _unmount(place)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(found: Engine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and daemon.poll() is None:
        with contextlib.suppress(EngineError, subprocess.TimeoutExpired):
            found.ask("info", seconds=10)
            return
        time.sleep(0.1)
    _stop(daemon)
    raise NoEngine(f"dockerd did not start: {log.read_text(errors='replace')[-3000:]}")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait(_STOP_SECONDS)


def _unmount(place: Path) -> None:
    # What is still in use then is of no use to anybody else.
    with contextlib.suppress(subprocess.TimeoutExpired):
        command = ["umount", "--lazy", str(place)]
        subprocess.run(command, check=False, capture_output=True, timeout=_STOP_SECONDS)


# -- a base image without a registry --------------------------------------------------------------

# What the official slim image leaves out too.
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/info/*")
_OPTIONS: Sequence[str] = (
    "--variant=apt",
    "--include=ca-certificates,python3,python3-venv",
    *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    '--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python3"',
    '--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
    # Its settings are those of the machine that made it.
    '--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"',
)


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """How Debian trixie is put together, whose Python is 3.13; `key` changes when it does."""

    options: tuple[str, ...]
    key: str

    def make(self, archive: Path) -> None:
        """Make the archive, from Debian's own address, which mmdebstrap knows."""
        if shutil.which("mmdebstrap") is None:
            raise NoEngine("no registry answers, and without mmdebstrap no base image can be made")
        draft = archive.with_name(f".{archive.name}")
        command = ["mmdebstrap", "--quiet", "--format=tar", *self.options, "trixie", str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            raise EngineError(f"mmdebstrap: {done.stderr[-3000:]}")
        draft.rename(archive)


def _recipe() -> _Recipe:
    options = [*_OPTIONS]
    key = hashlib.sha256()
    if _BUNDLE.is_file():
        # A machine behind a proxy of its own trusts more than Debian does.
        options.append(f"--customize-hook=copy-in {_BUNDLE} {_BUNDLE.parent}")
        key.update(_BUNDLE.read_bytes())
    key.update("\n".join(options).encode())
    return _Recipe(options=tuple(options), key=key.hexdigest()[:16])
