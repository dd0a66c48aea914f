"""What has no wheel is built where that is allowed: shut in, offline, without credentials."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from chalice_ci.errors import ExitCode, PackageError
from chalice_ci.package.build import Package
from chalice_ci.package.elf import read_object
from chalice_ci.package.wheels import file_sha256
from support import commandline, githttp
from support.index import Index, serve, wheel
from support.packages import RUNNING, build, cache_folder, members, project
from support.sources import packed, source


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Index()) as running:
        yield running


def add(index: Index, name: str, version: str = "1.0", **more: object) -> None:
    """Put a source distribution into the index."""
    files = source(name, version, **more)  # type: ignore[arg-type]
    index.add(f"{name}-{version}.tar.gz", packed(f"{name}-{version}", files))


def environ_for(index: Index, *, user: str = "") -> dict[str, str]:
    url = index.url.replace("://", f"://{user}@") if user else index.url
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "UV_DEFAULT_INDEX": url}


def built(
    folder: Path,
    index: Index,
    requirements: str,
    *,
    allowed: tuple[str, ...] = (":all:",),
    files: Mapping[str, str | bytes] | None = None,
    said: list[str] | None = None,
    environ: Mapping[str, str] | None = None,
    **more: object,
) -> Package:
    app_dir = project(folder / "app", {"requirements.txt": requirements, **(files or {})})
    return build(
        app_dir,
        out_dir=folder / "out",
        cache_dir=folder / "cache",
        environ=environ or environ_for(index),
        python=RUNNING,
        allowed=allowed,
        log=(said if said is not None else []).append,
        **more,  # type: ignore[arg-type]
    )


def names(package: Package) -> list[tuple[str, str]]:
    return [(one.name, one.version) for one in package.manifest.dependencies]


def test_a_source_distribution_is_built_and_its_dependencies_are_found(
    tmp_path: Path, index: Index
) -> None:
    """They are known once it is a wheel; one of them has no wheel either."""
    add(index, "first", requires=("second>=2", "third"))
    add(index, "second", "2.0")
    add(index, "second", "1.0")
    index.add("third-1.0-py3-none-any.whl", wheel("third", "1.0", ("third.py", b"")))
    said: list[str] = []
    package = built(tmp_path, index, "first==1.0\n", said=said)
    assert names(package) == [("first", "1.0"), ("second", "2.0"), ("third", "1.0")]
    assert {"first.py", "second.py", "third.py"} <= set(members(package.app.path))
    assert [line for line in said if line.startswith("building")] == [
        "building first 1.0",
        "building second 2.0",
    ]
    said.clear()
    again = built(tmp_path / "again", index, "first==1.0\n", said=said)
    assert again.app.sha256 == package.app.sha256
    said.clear()
    assert built(tmp_path, index, "first==1.0\n", said=said).app.sha256 == package.app.sha256
    assert said == []


def test_a_wheel_is_taken_where_there_is_one(tmp_path: Path, index: Index) -> None:
    """Building is allowed, not preferred; `--no-binary` prefers it."""
    add(index, "evil", "2.0")
    index.add("evil-1.0-py3-none-any.whl", wheel("evil", "1.0", ("evil.py", b"")))
    assert names(built(tmp_path / "a", index, "evil\n")) == [("evil", "1.0")]
    forced = built(tmp_path / "b", index, "evil\n--no-binary evil\n")
    assert names(forced) == [("evil", "2.0")]


def test_without_the_permission_the_error_has_the_line_to_add(tmp_path: Path, index: Index) -> None:
    canary = tmp_path / "canary"
    add(index, "evil", before=f"open({str(canary)!r}, 'w').write('ran')")
    add(index, "other")
    for allowed in ((), ("other",)):
        with pytest.raises(PackageError) as caught:
            built(tmp_path, index, "evil==1.0\n", allowed=allowed)
        assert "package: {build: [evil]}" in caught.value.fix
        assert caught.value.exit_code is ExitCode.PACKAGE_FAILED
    assert not canary.exists()


PROBES = {
    "the environment": "import os\nfiles['leak'] = repr(dict(os.environ)).encode()",
    "the parent's environment": (
        "import os\n"
        "try:\n    files['leak'] = open('/proc/%d/environ' % os.getppid(), 'rb').read()\n"
        "except OSError as error:\n    files['leak'] = repr(error).encode()"
    ),
    "the credentials of the home folder": (
        "try:\n    files['leak'] = open({netrc!r}, 'rb').read()\n"
        "except OSError as error:\n    files['leak'] = repr(error).encode()"
    ),
    "the network": (
        "import urllib.request\n"
        "try:\n    files['leak'] = urllib.request.urlopen({url!r}, timeout=5).read()\n"
        "except OSError as error:\n    files['leak'] = repr(error).encode()"
    ),
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_a_build_gets_at_nothing(tmp_path: Path, index: Index, probe: str) -> None:
    """Neither index credentials nor files nor servers: what it found would be in the wheel."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine example.org login reader password canary-4711\n")
    netrc.chmod(0o600)
    index.password = "canary-4711"
    add(index, "evil", before=probe.format(netrc=str(netrc), url=f"{index.url}/probe"))
    environ = {**environ_for(index, user="reader:canary-4711"), "NETRC": str(netrc)}
    environ |= {"AWS_SECRET_ACCESS_KEY": "canary-4711", "SECRET": "canary-4711"}
    package = built(tmp_path, index, "evil==1.0\n", environ=environ)
    with zipfile.ZipFile(package.app.path) as archive:
        assert b"canary-4711" not in archive.read("leak")
    assert not any("probe" in path for path, _ in index.requests)
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file() and path.stat().st_size < 1_000_000:
            assert b"canary-4711" not in path.read_bytes(), path


WHO = """
import os
try:
    open({canary!r}, "a").write(str(os.getuid()))
except OSError:
    pass
"""


def test_only_the_sandbox_runs_what_is_built(tmp_path: Path, index: Index) -> None:
    """Not uv while it locks, not git, not pip: who imports the backend elsewhere leaves a mark."""
    canary = tmp_path / "canary"
    canary.touch(mode=0o600)
    top = WHO.format(canary=str(canary))
    add(index, "first", requires=("second",), top=top)
    add(index, "second", top=top)
    lib = {f"lib/{name}": text for name, text in source("mine", top=top).items()}
    setup = {"lib/setup.py": top}
    package = built(tmp_path, index, "first\n./lib\n", files={**lib, **setup})
    assert names(package) == [("first", "1.0"), ("mine", "1.0"), ("second", "1.0")]
    assert canary.read_text() == ""


def test_a_backend_gets_what_it_asks_for_from_the_index(tmp_path: Path, index: Index) -> None:
    """As wheels, fetched before: static build requirements and those of PEP 517's hook."""
    index.add("static-1.0-py3-none-any.whl", wheel("static", "1.0", ("static.py", b"")))
    index.add("dynamic-1.0-py3-none-any.whl", wheel("dynamic", "1.0", ("dynamic.py", b"")))
    before = "import static, dynamic"
    add(index, "evil", before=before, needs=("dynamic>=1", "static"), build_requires=("static",))
    package = built(tmp_path, index, "evil==1.0\n")
    assert names(package) == [("evil", "1.0")]


FAILING: dict[str, tuple[dict[str, object], str]] = {
    "it raises": ({"before": "raise RuntimeError('no ::error:: luck')"}, "RuntimeError: no"),
    "it exits": ({"before": "import os; os._exit(3)"}, "ended itself with code 3"),
    "it calls itself otherwise": (
        {"before": "globals()['NAME'] = 'other'"},
        "calls itself other 1.0",
    ),
    "it is another version": ({"before": "globals()['VERSION'] = '6'"}, "calls itself evil 6"),
    "it is for another platform": ({"tag": "cp39-cp39-win_amd64"}, "cp39-cp39-win_amd64"),
    "its answer leaves": (
        {"before": "return '../../../../etc/passwd.whl'"},
        "instead of a wheel",
    ),
    "its wheel is a link": (
        {
            "before": "import os\nname = 'a-1-py3-none-any.whl'\n"
            "os.symlink('/etc/passwd', f'{wheel_directory}/{name}')\nreturn name"
        },
        "cannot be read",
    ),
    "its wheel is none": (
        {
            "before": "open(wheel_directory + '/evil-1.0-py3-none-any.whl', 'w').write('x')\n"
            "return 'evil-1.0-py3-none-any.whl'"
        },
        "not a zip file",
    ),
    "a name that climbs": ({"before": "files['../x'] = b''"}, "is no name for a file"),
    "a bomb": (
        {
            "before": "import zipfile\nwith zipfile.ZipFile(wheel_directory + '/evil-1.0-py3-none-"
            "any.whl', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('zeros', bytes(30_000_000))\n"
            "return 'evil-1.0-py3-none-any.whl'"
        },
        "is a bomb",
    ),
    "another processor": (
        {"before": "files['x.so'] = b'\\x7fELF\\x02\\x01' + bytes(12) + b'\\xb7\\0' + bytes(44)"},
        "is for aarch64",
    ),
    "no library": ({"before": "files['x.so'] = b'\\x7fELF' + bytes(99)"}, "no library of Linux"),
    "a build requirement with an address": (
        {"build_requires": ("x @ https://example.org/x.whl",)},
        "from an address to be built",
    ),
    "a build requirement that is nowhere": ({"build_requires": ("nowhere",)}, "nowhere"),
    "a backend that is nowhere": ({"needs": ("nowhere",)}, "nowhere"),
}


@pytest.mark.parametrize(("how", "told"), FAILING.values(), ids=FAILING)
def test_a_build_that_fails_or_lies_is_an_error_with_its_name(
    tmp_path: Path, index: Index, how: dict[str, object], told: str
) -> None:
    add(index, "evil", **how)
    with pytest.raises(PackageError) as caught:
        built(tmp_path, index, "evil==1.0\n")
    assert "evil" in caught.value.what
    assert told in caught.value.what
    assert caught.value.fix
    assert not list((tmp_path / "cache/built").glob("*/*.whl"))


def elf(*, needed: bytes, glibc: bytes, machine: int = 62) -> bytes:
    """A shared object with one segment, one needed library and the name of a glibc symbol."""
    strings = b"\0" + needed + b"\0" + glibc + b"\0"
    dynamic = struct.pack("<qQqQqQ", 1, 1, 5, 512, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 0, 0, 0, 0, 4096, 4096, 0)
    segments += struct.pack("<IIQQQQQQ", 2, 0, 256, 256, 0, len(dynamic), len(dynamic), 0)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    return (header + segments).ljust(256, b"\0") + dynamic.ljust(256, b"\0") + strings


@pytest.mark.parametrize(
    ("needed", "glibc", "told"),
    [
        (b"libpq.so.5", b"GLIBC_2.17", "needs libpq.so.5, which Lambda does not have"),
        (b"libc.so.6", b"GLIBC_2.99", "needs glibc 2.99"),
        (b"libc.musl-x86_64.so.1", b"", "needs libc.musl"),
        (b"libc.so.6", b"GLIBC_2.17", ""),
        (b"libmine.so.1", b"GLIBC_2.17", ""),
    ],
)
def test_a_library_that_lambda_cannot_load_is_not_packaged(
    tmp_path: Path, index: Index, needed: bytes, glibc: bytes, told: str
) -> None:
    data = elf(needed=needed, glibc=glibc)
    assert read_object(data).needed == (needed.decode(),)
    add(index, "evil", before=f"files['x.so'] = {data!r}\nfiles['evil.libs/libmine.so.1'] = b''")
    if not told:
        assert "x.so" in members(built(tmp_path, index, "evil\n").app.path)
        return
    with pytest.raises(PackageError, match="evil") as caught:
        built(tmp_path, index, "evil\n")
    assert told in caught.value.what
    assert "vendor/" in caught.value.fix


def test_a_library_that_is_cut_off_is_no_defect() -> None:
    whole = elf(needed=b"libc.so.6", glibc=b"")
    for cut in range(len(whole)):
        try:
            read_object(whole[:cut])
        except ValueError:
            continue
        assert cut > whole.index(b"libc.so.6")


def test_what_runs_on_this_machine_is_read() -> None:
    """The interpreter's own modules name glibc, and nothing that is not there."""
    import _ctypes

    found = read_object(Path(_ctypes.__file__).read_bytes())
    assert found.machine in ("x86_64", "aarch64")
    assert "libc.so.6" in found.needed
    assert (2, 2) <= found.glibc < (3, 0)


def test_a_pure_wheel_serves_arm64_and_a_compiled_one_is_refused(
    tmp_path: Path, index: Index
) -> None:
    add(index, "pure")
    add(index, "compiled", tag=f"cp{RUNNING.replace('.', '')}-abi3-linux_x86_64")
    assert names(built(tmp_path, index, "pure\n", architecture="arm64")) == [("pure", "1.0")]
    with pytest.raises(PackageError, match=r"needs one for Python .* on arm64"):
        built(tmp_path, index, "compiled\n", architecture="arm64")


def test_a_hash_of_the_source_is_honoured(tmp_path: Path, index: Index) -> None:
    add(index, "evil")
    digest = hashlib.sha256(index.files["evil-1.0.tar.gz"]).hexdigest()
    right = f"evil==1.0 --hash=sha256:{digest}\n"
    assert names(built(tmp_path, index, right)) == [("evil", "1.0")]
    with pytest.raises(PackageError) as caught:
        built(tmp_path, index, f"evil==1.0 --hash=sha256:{'0' * 64}\n")
    assert "evil 1.0 has none of the hashes" in caught.value.what


def test_a_built_wheel_is_believed_for_its_hash(tmp_path: Path, index: Index) -> None:
    """A flipped bit in the cache: it is built again, with the same result."""
    add(index, "evil")
    before = built(tmp_path, index, "evil\n")
    (kept,) = (tmp_path / "cache/built").glob("*/evil-1.0-py3-none-any.whl")
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.write_bytes(bytes(data))
    for folder in ("wheels", "archives"):
        for path in (tmp_path / "cache" / folder).iterdir():
            path.unlink()
    said: list[str] = []
    assert built(tmp_path, index, "evil\n", said=said).app.sha256 == before.app.sha256
    assert "building evil 1.0" in said


# --- places instead of versions -------------------------------------------------------------------


def test_a_folder_of_the_project_is_packed_and_built(tmp_path: Path, index: Index) -> None:
    lib = {f"lib/{name}": text for name, text in source("mine", "3.1").items()}
    text = "-e ./lib\n./lib\n"
    package = built(tmp_path, index, text, files=lib, allowed=("mine",))
    assert names(package) == [("mine", "3.1")]
    assert package.manifest.dependencies[0].direct
    assert "mine.py" in members(package.app.path)


def test_a_link_out_of_what_is_built_is_refused(tmp_path: Path, index: Index) -> None:
    lib = {f"lib/{name}": text for name, text in source("mine").items()}
    (tmp_path / "secret").write_text("canary")
    app_dir = project(tmp_path / "app", lib)
    (app_dir / "lib/data").symlink_to(tmp_path / "secret")
    with pytest.raises(PackageError, match="this link leaves the package") as caught:
        built(tmp_path, index, "./lib\n")
    assert caught.value.where == "lib/data"


def test_wheels_of_the_project_are_taken_without_building(tmp_path: Path, index: Index) -> None:
    """By path, and from a folder that `--find-links` names; the index has neither."""
    files = {
        "wheels/one-1.0-py3-none-any.whl": wheel("one", "1.0", ("one.py", b"")),
        "wheels/two-1.0-py3-none-any.whl": wheel("two", "1.0", ("two.py", b"")),
        "wheels/two-2.0-cp39-cp39-win_amd64.whl": wheel("two", "2.0", ("two.py", b"")),
    }
    text = "--no-index\n--find-links wheels\n./wheels/one-1.0-py3-none-any.whl\ntwo\n"
    package = built(tmp_path, index, text, files=files, allowed=())
    assert names(package) == [("one", "1.0"), ("two", "1.0")]
    assert index.requests == []


def test_a_broken_wheel_of_the_project_is_named(tmp_path: Path, index: Index) -> None:
    """One that is cut off is not passed over: the index may have another of that name."""
    whole = wheel("one", "1.0", ("one.py", b""))
    files = {"wheels/one-1.0-py3-none-any.whl": whole[: len(whole) // 2]}
    index.add("one-0.9-py3-none-any.whl", wheel("one", "0.9", ("one.py", b"")))
    with pytest.raises(PackageError, match=r"one-1\.0.* is not usable") as caught:
        built(tmp_path, index, "--find-links wheels\none\n", files=files, allowed=())
    assert caught.value.where == "wheels"


@pytest.mark.parametrize("target", ["gone.whl", "one-1.0-py3-none-any.whl"])
def test_a_link_to_no_wheel_among_those_of_the_project_is_refused(
    tmp_path: Path, index: Index, target: str
) -> None:
    """To nothing, and to itself."""
    files = {"wheels/readme": b"", "app.py": b"app = None\n"}
    app_dir = project(tmp_path / "app", files)
    (app_dir / "wheels/one-1.0-py3-none-any.whl").symlink_to(target)
    with pytest.raises(PackageError, match="leads nowhere") as caught:
        built(tmp_path, index, "--find-links wheels\none\n", allowed=())
    assert caught.value.where == "wheels/one-1.0-py3-none-any.whl"


def test_a_wheel_at_an_address_is_fetched_with_its_own_credentials(
    tmp_path: Path, index: Index
) -> None:
    index.password = "canary-4711"
    data = wheel("evil", "1.0", ("evil.py", b""))
    index.add("evil-1.0-py3-none-any.whl", data)
    place = index.url.replace("/simple", "/files/evil-1.0-py3-none-any.whl")
    place = place.replace("://", "://reader:canary-4711@")
    digest = hashlib.sha256(data).hexdigest()
    for number, line in enumerate((f"evil @ {place}#sha256={digest}", place)):
        package = built(tmp_path / str(number), index, f"{line}\n", allowed=())
        assert names(package) == [("evil", "1.0")]
        assert "canary-4711" not in package.manifest.text
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "requirements.txt":
            assert b"canary-4711" not in path.read_bytes(), path
    with pytest.raises(PackageError, match="its hash is another one") as caught:
        built(tmp_path / "c", index, f"evil @ {place}#sha256={'0' * 64}\n", allowed=())
    assert "canary-4711" not in f"{caught.value}{caught.value.__cause__}"
    with pytest.raises(PackageError, match="is called evil by its own metadata") as caught:
        built(tmp_path / "d", index, f"good @ {place}\n", allowed=())
    assert "canary-4711" not in f"{caught.value}"


def test_a_source_at_an_address_is_built(tmp_path: Path, index: Index) -> None:
    add(index, "evil")
    place = index.url.replace("/simple", "/files/evil-1.0.tar.gz")
    assert names(built(tmp_path, index, f"evil @ {place}\n")) == [("evil", "1.0")]


def test_a_commit_of_a_repository_is_built(tmp_path: Path, index: Index) -> None:
    """By branch and by commit, from a subdirectory; its hooks and submodules have no part."""
    root = tmp_path / "served"
    files = {f"deep/er/{name}": text for name, text in source("mine", "1.2").items()}
    repository = project(root / "mine.git", files)
    commandline.git(repository, "init", "--quiet", "--initial-branch", "main")
    commit = commandline.commit(repository)
    git_environ = commandline.environ(GIT_CONFIG_GLOBAL=os.devnull)
    with githttp.serving(root, environ=git_environ) as url:
        host = url.removeprefix("http://").partition("/")[0]
        environ = {**environ_for(index), "UV_INSECURE_HOST": host}
        for number, revision in enumerate(("", "@main", f"@{commit}")):
            address = f"git+{url.replace('//', '//reader:canary-4711@')}/mine.git{revision}"
            line = f"{address}#egg=mine&subdirectory=deep/er\n"
            package = built(tmp_path / str(number), index, line, environ=environ)
            assert names(package) == [("mine", "1.2")]
            assert "canary-4711" not in package.manifest.text
        line = f"mine @ git+{url.replace('//', '//reader:canary-4711@')}/none.git@nothing\n"
        with pytest.raises(PackageError, match="could not be fetched") as caught:
            built(tmp_path / "missing", index, line, environ=environ)
        assert "canary-4711" not in str(caught.value)
        with pytest.raises(PackageError, match="does not begin with https"):
            built(tmp_path / "plain", index, f"mine @ git+{url}/mine.git\n")


# --- for real -------------------------------------------------------------------------------------


def test_old_projects_without_wheels_are_packaged(tmp_path: Path) -> None:
    """Pins of real projects, from the package index; setuptools as it was then."""
    text = "twilio==6.45.3\nfuture==0.16.0\npydispatcher==2.0.6\n"
    package = build(
        project(tmp_path / "app", {"requirements.txt": text}),
        out_dir=tmp_path / "out",
        python="3.13",
        allowed=("twilio", "future", "PyDispatcher"),
    )
    found = dict(names(package))
    assert found["twilio"] == "6.45.3"
    assert found["future"] == "0.16.0"
    assert found["pydispatcher"] == "2.0.6"
    # What twilio's setup.py asks for.
    assert {"requests", "pytz", "six", "pyjwt"} <= set(found)
    assert {"twilio/rest/__init__.py", "future/__init__.py"} <= set(members(package.app.path))


LOCAL_APP = """
import mine
from chalice import Chalice

app = Chalice(app_name="hello")


@app.route(f"/{mine.version}")
def index():
    return {}
"""


def test_the_command_builds_and_loads_with_what_was_built(tmp_path: Path, index: Index) -> None:
    """The route's name comes from the dependency that had to be built."""
    lib = {f"lib/{name}": text for name, text in source("mine", "7.5").items()}
    root = commandline.hello(tmp_path / "repository")
    commandline.write(root, {"requirements.txt": "-e ./lib\n", "app.py": LOCAL_APP, **lib})
    refused = commandline.chalice_ci("package", "--stage", "dev", cwd=root)
    assert refused.code == ExitCode.PACKAGE_FAILED
    assert "package: {build: [mine]}" in refused.out
    commandline.write(root, {"chalice-ci.yml": "package: {build: [mine]}\n"})
    done = commandline.chalice_ci("package", "--stage", "dev", "--format", "json", cwd=root)
    assert done.code == 0, done.err
    manifest = json.loads(next(root.rglob("manifest.json")).read_text())
    assert [one["name"] for one in manifest["dependencies"]] == ["mine"]
    template = next(root.rglob("sam.json")).read_text()
    assert '"/7.5"' in template


def test_the_command_expands_a_variable_for_the_server_that_may_have_it(
    tmp_path: Path, index: Index
) -> None:
    """A wheel behind a password: fetched with it, and nothing that is written or said has it."""
    secret = "canary-4711"
    index.password = secret
    index.add("mine-1.0-py3-none-any.whl", wheel("mine", "1.0", ("mine.py", b"version = '7.5'\n")))
    place = index.url.replace("/simple", "/files/mine-1.0-py3-none-any.whl")
    line = f"mine @ {place.replace('://', '://reader:${INDEX_TOKEN}@')}\n"
    root = commandline.hello(tmp_path / "repository")
    commandline.write(root, {"requirements.txt": line, "app.py": LOCAL_APP})
    host = place.split("/")[2]
    environ = {"INDEX_TOKEN": secret, "UV_INSECURE_HOST": host}
    package = ("package", "--stage", "dev", "--cache-dir", cache_folder(), "--format", "json")
    refused = commandline.chalice_ci(*package, cwd=root, **environ)
    assert refused.code == ExitCode.PACKAGE_FAILED
    assert f"package: {{variables: {{INDEX_TOKEN: {host}}}}}" in refused.out
    config = f"package: {{variables: {{INDEX_TOKEN: '{host}'}}}}\n"
    commandline.write(root, {"chalice-ci.yml": config})
    commandline.commit(root)
    done = commandline.chalice_ci(*package, cwd=root, **environ)
    assert done.code == 0, done.out
    assert '"/7.5"' in next(root.rglob("sam.json")).read_text()
    assert secret not in f"{done.out}{done.err}"
    kept = (cache_folder() / name for name in ("locks", "resolutions", "archives"))
    for path in (path for folder in (tmp_path, *kept) for path in folder.rglob("*")):
        if path.is_file() and path.stat().st_size < 1_000_000:
            assert secret.encode() not in path.read_bytes(), path


def test_a_check_tells_what_was_noticed_while_the_versions_were_chosen(tmp_path: Path) -> None:
    """An empty requirements.txt hides the project's; a .python-version that says no version."""
    project_file = '[project]\nname = "x"\nversion = "1"\ndependencies = ["requests"]\n'
    files = {"pyproject.toml": project_file, ".python-version": "my-project\n"}
    root = commandline.hello(tmp_path / "repository", **files)
    done = commandline.chalice_ci("check", "--stage", "dev", "--format", "json", cwd=root)
    assert done.code == 0, done.err
    told = {finding["rule"] for finding in done.result["findings"]}
    assert told == {"python-version", "requirements-ignored"}


def test_two_processes_that_want_the_same_build_it_once(tmp_path: Path, index: Index) -> None:
    add(index, "evil", before="import time; time.sleep(1)")
    app_dir = project(tmp_path / "app", {"requirements.txt": "evil\n"})
    code = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\n"
        "from support.packages import RUNNING, build\n"
        "package = build(Path(sys.argv[2]), out_dir=Path(sys.argv[3]), cache_dir=Path(sys.argv[4]),"
        " python=RUNNING, allowed=(':all:',), log=print)\nprint(package.app.sha256)\n"
    )
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", code, str(Path(__file__).parent), app_dir),
                *(tmp_path / f"out{number}", tmp_path / "cache"),
            ],
            env={**commandline.environ(), **environ_for(index)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1]
    assert sum("building" in output for output in outputs) == 1
    (kept,) = (tmp_path / "cache/built").glob("*/*.whl")
    assert file_sha256(kept)
