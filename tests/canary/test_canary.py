"""Hostile apps against the sandbox, as root and as nobody.

Zone 1 runs in a process of its own with canary secrets in its environment, its memory, its files
and an open descriptor. A case passes when no secret byte reaches anything that the app can write
or that we print, nothing of the app is left, and the end is a controlled one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chalice_ci
from canary import hostile
from support.apppythons import app_python
from support.hostile import obeyed

SOURCE = Path(chalice_ci.__file__).parent
DRIVER = Path(__file__).with_name("driver.py")
WITHOUT_LANDLOCK = DRIVER.with_name("without_landlock.py")
NOBODY = 65534
PR_SET_DUMPABLE = 4
LIMITS: dict[str, float] = {
    # Nothing but what is endless takes as long, on the slowest machine.
    "wall_seconds": 60,
    "cpu_seconds": 60,
    "memory_bytes": 700 * 1024**2,
    "processes": 40,
    "file_bytes": 16 * 1024**2,
    "written_bytes": 64 * 1024**2,
    "written_files": 2000,
}
# To begin and to end everything, beside the wall limit, on a machine that has other things to do.
CONTROLLED_SECONDS = 60


class Listener:
    """Counts who reaches it: TCP, UDP, a socket file and an abstract socket."""

    def __init__(self, folder: Path) -> None:
        self.reached: list[str] = []
        self.name = f"canary-{secrets.token_hex(8)}"
        self._sockets = [
            socket.socket(socket.AF_INET, socket.SOCK_STREAM),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        ]
        tcp, udp, file, abstract = self._sockets
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        self.path = folder / "docker.sock"
        file.bind(str(self.path))
        self.path.chmod(0o777)
        abstract.bind(f"\0{self.name}")
        self.tcp, self.udp = tcp.getsockname()[1], udp.getsockname()[1]
        for made in self._sockets:
            if made is not udp:
                made.listen()
            made.settimeout(0.2)
        self._stop = False
        self._threads = [
            threading.Thread(target=self._listen, args=(made, made is udp))
            for made in self._sockets
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, made: socket.socket, is_udp: bool) -> None:
        while not self._stop:
            with contextlib.suppress(TimeoutError):
                if is_udp:
                    self.reached.append(repr(made.recvfrom(100)))
                else:
                    connection, address = made.accept()
                    self.reached.append(repr(address))
                    connection.close()

    def close(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join(10)
        for made in self._sockets:
            made.close()


class Arena:
    """What a CI step has around it, for one user."""

    def __init__(self, root: Path, user: int) -> None:
        self.root, self.user = root, user
        self.token = secrets.token_hex(8)
        # Other tests run at the same time, as the same user: their canaries are not ours.
        self.mark = f"kanarie{secrets.token_hex(4)}"
        self.secrets = [f"{self.mark}{secrets.token_hex(16)}" for _ in range(6)]
        self.project, self.work = root / "project", root / "work"
        self.python = app_python()
        root.chmod(0o755)
        for name, mode in (("home", 0o700), ("temp", 0o755), ("commands", 0o777), ("open", 0o777)):
            (root / name).mkdir()
            (root / name).chmod(mode)
        self.work.mkdir(mode=0o711)
        self.work.chmod(0o711)
        self.secret_files = [root / "temp" / "token", root / "home" / "credentials"]
        self.command_files = [root / "commands" / name for name in ("ENV", "PATH", "OUTPUT")]
        for path, secret in zip(self.secret_files, self.secrets, strict=False):
            path.write_text(f"[default]\naws_secret_access_key = {secret}\n")
        self.secret_files[0].chmod(0o644)
        self.secret_files[1].chmod(0o600)
        for path in self.command_files:
            path.write_text("")
            path.chmod(0o666)
        self.listener = Listener(root)
        self._copy_source()
        if os.geteuid() == 0:
            for path in (root / "home", self.secret_files[1], self.work):
                os.chown(path, user, user)

    def _copy_source(self) -> None:
        # Readable for the other user, wherever the repository itself is.
        for part in ("", "app", "child/chalice_ci_child"):
            target = self.root / "source" / "chalice_ci" / part
            target.mkdir(parents=True, exist_ok=True)
            for file in (SOURCE / part).glob("*.py"):
                shutil.copyfile(file, target / file.name)
        for script in (DRIVER, WITHOUT_LANDLOCK):
            shutil.copyfile(script, self.root / script.name)
        command = ["chmod", "-R", "a+rX", str(self.root / "source")]
        subprocess.run(command, check=True, timeout=60)

    def write_app(self, source: str, *, extra: dict[str, str] | None = None) -> None:
        arena = {
            "tcp": self.listener.tcp,
            "udp": self.listener.udp,
            "unix": str(self.listener.path),
            "abstract": self.listener.name,
            "root": str(self.root),
            "project": str(self.project),
            "open_folder": str(self.root / "open"),
            "token": self.token,
            "backwards": self.mark[::-1],
            "secret_files": [str(path) for path in self.secret_files],
            "command_files": [str(path) for path in self.command_files],
        }
        config = {
            "version": "2.0",
            "app_name": "canary",
            "stages": {
                "dev": {
                    "autogen_policy": False,
                    "environment_variables": {"ARENA": json.dumps(arena), **self.variables},
                }
            },
        }
        files = {
            "app.py": hostile.PRELUDE + source,
            ".chalice/config.json": json.dumps(config),
            ".chalice/policy-dev.json": '{"Version": "2012-10-17", "Statement": []}',
            ".git/config": f"extraheader = {self.secrets[2]}",
            **(extra or {}),
        }
        for name, text in files.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    variables: dict[str, str] = {}  # noqa: RUF012 - set by single tests

    def load(
        self, *, python: Path | None = None, landlock: bool = True, **limits: float
    ) -> dict[str, Any]:
        limits = {**LIMITS, **limits}
        wanted = {
            "source": str(self.root / "source"),
            "project": str(self.project),
            "work": str(self.work),
            "python": str(python or self.python.executable),
            "version": self.python.version,
            "chalice": self.python.chalice,
            "secret_files": [str(path) for path in self.secret_files],
            "limits": limits,
        }
        spec = self.root / "wanted.json"
        spec.write_text(json.dumps(wanted))
        spec.chmod(0o644)
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "AWS_SECRET_ACCESS_KEY": self.secrets[3],
            "GITHUB_TOKEN": self.secrets[4],
            "ACTIONS_RUNTIME_TOKEN": self.secrets[5],
            "GITHUB_ENV": str(self.command_files[0]),
        }
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0 and self.user != 0:
            as_user = {"user": self.user, "group": self.user, "extra_groups": []}
        command = [self.python.executable, "-I", self.root / "driver.py", spec]
        if not landlock:
            command = [self.python.executable, "-I", self.root / WITHOUT_LANDLOCK.name, *command]
        begun = time.monotonic()
        done = subprocess.run(
            command,
            env=environ,
            cwd=self.project,
            capture_output=True,
            timeout=300,
            check=False,
            **as_user,
        )
        seconds = time.monotonic() - begun
        assert done.returncode == 0, done.stderr.decode()[-4000:]
        for secret in self.secrets:
            assert secret.encode() not in done.stdout + done.stderr
        assert seconds < limits["wall_seconds"] + CONTROLLED_SECONDS
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["work"] == []
        return found

    def untouched(self) -> None:
        """Nobody was reached, nothing was written, nothing still runs."""
        assert self.listener.reached == []
        for path in self.command_files:
            assert path.read_text() == ""
        for path, secret in zip(self.secret_files, self.secrets, strict=False):
            assert path.read_text().endswith(f"{secret}\n")
        assert list((self.root / "open").iterdir()) == []
        for place in ("/tmp", "/var/tmp", "/dev/shm"):
            assert not (Path(place) / self.token).exists()
        if self.project.exists():
            assert "EVIL-MARK" not in (self.project / "app.py").read_text()
        assert not (self.project / "new.py").exists()
        assert running_with(self.token) == []


def running_with(text: str) -> list[str]:
    """The command lines of running processes that hold the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if text in line:
                found.append(line)
    return found


@pytest.fixture(params=["root", "nobody"])
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    if os.geteuid() == 0:
        user = 0 if request.param == "root" else NOBODY
    elif request.param == "root":
        pytest.skip("needs root")
    else:
        user = os.geteuid()
    root = Path(tempfile.mkdtemp(prefix="chalice-ci-canary-"))
    with hidden() if user == os.geteuid() != 0 else contextlib.nullcontext():
        made = Arena(root, user)
        yield made
        made.listener.close()
    made.untouched()
    shutil.rmtree(root)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Nobody of our own user can look into this process, which knows the secrets too.

    No more than the step that is played here lets others look into itself.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) == 0
    try:
        yield
    finally:
        assert libc.prctl(PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0) == 0


@pytest.mark.parametrize("name", hostile.PROBES)
def test_a_probe_finds_nothing(arena: Arena, name: str) -> None:
    arena.write_app(hostile.PROBES[name])
    found = arena.load()
    assert "FOUND 0 []" in found["output"], found
    assert found["loaded"], found["answer"]
    assert found["isolation"]["level"] == ("full" if arena.user == 0 else "partial")


@pytest.mark.parametrize("name", ["other processes", "tracing and signals", "the network"])
def test_a_kernel_without_landlock_lowers_the_level_and_says_so(arena: Arena, name: str) -> None:
    """A uid of its own and seccomp still keep other processes and the network away."""
    arena.write_app(hostile.PROBES[name])
    found = arena.load(landlock=False)
    assert "FOUND 0 []" in found["output"], found
    assert found["isolation"]["level"] == ("partial" if arena.user == 0 else "none")
    assert any("no Landlock" in reason for reason in found["isolation"]["reasons"])


def test_a_folder_that_others_cannot_enter_lowers_the_level_and_says_so(arena: Arena) -> None:
    if arena.user != 0:
        pytest.skip("needs root")
    arena.work.chmod(0o700)
    arena.write_app(hostile.PROBES["other processes"])
    found = arena.load()
    assert found["isolation"]["level"] == "partial"
    assert any("cannot reach" in reason for reason in found["isolation"]["reasons"])
    assert "FOUND 0 []" in found["output"], found


def test_the_app_has_no_rights_left(arena: Arena) -> None:
    arena.write_app(hostile.PROBES["privileges"])
    lines = [line.split() for line in arena.load()["output"].splitlines()]
    status = {line[1]: line[2:] for line in lines if line[0] == "STATUS"}
    uid, gid = status["Uid"][0], status["Gid"][0]
    if arena.user == 0:
        assert int(uid) >= 20_000
        assert int(gid) >= 20_000
        assert status["Groups"] == []
    assert set(status["CapEff"] + status["CapPrm"]) == {"0" * 16}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]


def test_two_loads_have_two_uids(arena: Arena) -> None:
    if arena.user != 0:
        pytest.skip("needs root")
    arena.write_app("print('UID', os.getuid())")
    assert arena.load()["output"] != arena.load()["output"]


@pytest.mark.parametrize("name", hostile.FORGERIES)
def test_a_forged_answer_is_not_used(arena: Arena, name: str) -> None:
    arena.write_app(hostile.FORGERIES[name])
    found = arena.load()
    assert not found["loaded"]
    assert found["kind"] in ("forged", "system-exit", "too-large")


@pytest.mark.parametrize("name", hostile.BOMBS)
def test_a_bomb_ends_controlled(arena: Arena, name: str) -> None:
    arena.write_app("print('BEGUN', flush=True)\n" + hostile.BOMBS[name])
    harmless = name == "forks that run away"
    # Most of them last as long as they may, so no longer than it takes this machine to begin.
    for seconds in (60,) if harmless else (2, 10, 60):
        found = arena.load(wall_seconds=seconds, cpu_seconds=seconds)
        if "BEGUN" in found["output"]:
            break
    assert "BEGUN" in found["output"], found
    assert found["loaded"] == harmless, (found["kind"], found["answer"][:500])
    assert len(found["output"]) < 2 * 1024**2
    assert not obeyed(found["output"])


def test_daemons_are_ended_before_the_answer_is_used(arena: Arena) -> None:
    arena.write_app(hostile.DAEMON)
    found = arena.load()
    assert found["loaded"]
    assert any("left 3 process" in warning for warning in found["warnings"]), found["warnings"]
    assert running_with(arena.token) == []
    time.sleep(0.5)


def test_a_daemon_that_outlives_a_killed_orchestrator_is_ended_too(arena: Arena) -> None:
    """The supervisor notices that zone 1 is gone."""
    arena.write_app(hostile.DAEMON + "\ntime.sleep(60)\n")
    spec = arena.root / "wanted.json"
    wanted = {
        "source": str(arena.root / "source"),
        "project": str(arena.project),
        "work": str(arena.work),
        "python": str(arena.python.executable),
        "version": arena.python.version,
        "chalice": arena.python.chalice,
        "secret_files": [str(path) for path in arena.secret_files],
        "limits": LIMITS,
    }
    spec.write_text(json.dumps(wanted))
    spec.chmod(0o644)
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0 and arena.user != 0:
        as_user = {"user": arena.user, "group": arena.user, "extra_groups": []}
    driver = subprocess.Popen(
        [arena.python.executable, "-I", arena.root / "driver.py", spec],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_user,
    )
    assert eventually(lambda: len(running_with(f"daemon-{arena.token}")) == 3)
    driver.kill()
    driver.wait(30)
    assert eventually(lambda: running_with(arena.token) == [])


def eventually(check: Any, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.1)
    return False


def test_modules_of_the_project_do_not_reach_the_loader_or_us(arena: Arena) -> None:
    evil = "import os\nprint('POISON', __name__, os.getpid())\nraise SystemExit(9)\n"
    names = ("json", "sitecustomize", "usercustomize", "os", "re", "typing", "ctypes", "select")
    extra = {f"{name}.py": evil for name in (*names, "subprocess", "tempfile", "codec", "load")}
    extra["boto3/__init__.py"] = evil
    extra["chalice_ci/__init__.py"] = evil
    extra["chalice_ci_child/__init__.py"] = evil
    extra["botocore/__init__.py"] = evil
    extra["vendor/json.py"] = evil
    arena.write_app("", extra=extra)
    found = arena.load()
    # Chalice puts the project first, so what is imported late may be the app's; never ours.
    assert found["loaded"] or "POISON" in found["output"]
    arena.write_app("import boto3", extra=extra)
    assert not arena.load()["loaded"]


def test_variables_of_the_stage_do_not_reach_the_loader(arena: Arena) -> None:
    evil = str(arena.project / "evil.so")
    names = """LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT PYTHONPATH PYTHONHOME PYTHONSTARTUP
        PYTHONINSPECT AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_CA_BUNDLE AWS_CONFIG_FILE
        AWS_SHARED_CREDENTIALS_FILE AWS_PROFILE HTTPS_PROXY http_proxy SSL_CERT_FILE
        REQUESTS_CA_BUNDLE GIT_DIR GIT_SSH_COMMAND GIT_CONFIG_COUNT HOME PATH TMPDIR BASH_ENV
        GCONV_PATH GLIBC_TUNABLES AWS_EC2_METADATA_DISABLED NODE_OPTIONS"""
    arena.variables = dict.fromkeys(names.split(), evil)
    arena.write_app(f"found += [n for n, v in os.environ.items() if v == {evil!r}]\ndone()")
    found = arena.load()
    assert found["loaded"], found["answer"]
    assert "FOUND 0 []" in found["output"]
    assert "LD_PRELOAD" in " ".join(found["warnings"])


def test_a_dependency_with_a_pth_file_runs_without_secrets(arena: Arena, tmp_path: Path) -> None:
    """`site` runs it before anything of ours, `-I` or not: so the whole process is confined."""
    environment = arena.root / "environment"
    original = arena.python.executable.parent.parent
    subprocess.run(["cp", "-al", str(original), str(environment)], check=True, timeout=60)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "evil.pth").write_text("import evil_dependency\n")
    (packages / "evil_dependency.py").write_text(
        "import os, sys\n"
        "found = 'kana' 'rie' in str(dict(os.environ))\n"
        f"for path in {[str(path) for path in (*arena.secret_files, *arena.command_files)]!r}:\n"
        "    for mode in ('r', 'a'):\n"
        "        try:\n"
        "            open(path, mode).close(); found = True\n"
        "        except OSError: pass\n"
        "print('PTH', found)\n"
    )
    arena.write_app("")
    found = arena.load(python=environment / "bin" / "python")
    assert found["loaded"], found
    assert "PTH False" in found["output"]


def test_the_orchestrator_itself_cannot_be_read_by_others_of_its_user(arena: Arena) -> None:
    """What a load leaves switched on: no core, no /proc/<pid>/environ for the same user."""
    program = (
        f"import sys; sys.path.insert(0, {str(arena.root / 'source')!r})\n"
        "from chalice_ci.app.sandbox import protect_this_process\n"
        "import os, subprocess, time\n"
        "protect_this_process()\n"
        "child = subprocess.run(['cat', f'/proc/{os.getpid()}/environ'], capture_output=True)\n"
        "print(child.returncode)\n"
    )
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    done = subprocess.run(
        [arena.python.executable, "-I", "-c", program],
        capture_output=True,
        cwd="/",
        text=True,
        timeout=60,
        check=True,
        **as_user,
    )
    assert done.stdout == "1\n"
