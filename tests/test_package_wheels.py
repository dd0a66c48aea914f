"""Wheels are fetched from where the lock says and looked into before a byte of them is used."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import time
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from chalice_ci.errors import ExitCode, PackageError
from support.index import Entry, Index, patched, sdist, serve, wheel
from support.packages import build, members, project


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Index()) as running:
        yield running


def environ_for(index: Index, *, user: str = "") -> Mapping[str, str]:
    """Only this index: what a runner with a mirror has."""
    url = index.url.replace("://", f"://{user}@") if user else index.url
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "UV_DEFAULT_INDEX": url}


def build_with(
    index: Index,
    folder: Path,
    requirements: str = "evil==1.0\n",
    *,
    environment_lock: Future[str] | None = None,
    **more: str,
):
    app_dir = project(folder / "app", {"requirements.txt": requirements})
    return build(
        app_dir,
        environment_lock=environment_lock,
        out_dir=folder / "out",
        cache_dir=folder / "cache",
        environ={**environ_for(index, user=more.pop("user", "")), **more},
    )


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_a_wheel_of_the_index_is_in_the_package(tmp_path: Path, index: Index) -> None:
    index.add("evil-1.0-py3-none-any.whl", wheel("evil", "1.0", ("evil/__init__.py", b"x = 1\n")))
    package = build_with(index, tmp_path)
    assert "evil/__init__.py" in members(package.app.path)
    (dependency,) = package.manifest.dependencies
    assert (dependency.name, dependency.version, dependency.direct) == ("evil", "1.0", True)


def environment_lock(*wheels: tuple[str, bytes]) -> Future[str]:
    """As uv writes it: wheels by address."""
    lock: Future[str] = Future()
    rows = (
        f"""[[packages]]
name = "{url.rpartition("/")[2].partition("-")[0]}"
version = "1.0"
wheels = [{{ url = "{url}", hashes = {{ sha256 = "{hashlib.sha256(data).hexdigest()}" }} }}]
"""
        for url, data in wheels
    )
    lock.set_result("\n".join(('lock-version = "1.0"\n', *rows)))
    return lock


def test_what_loads_the_app_is_fetched_while_the_index_is_asked(
    tmp_path: Path, index: Index
) -> None:
    """The lock alone says what is packaged; nothing is fetched twice."""
    index.add("evil-1.0-py3-none-any.whl", wheel("evil", "1.0", ("evil.py", b"")))
    index.add("spare-1.0-py3-none-any.whl", wheel("spare", "1.0", ("spare.py", b"")))
    answered = index.held["/simple/"] = Event()
    files = index.url.replace("/simple", "/files")
    lock = environment_lock(*((f"{files}/{name}", data) for name, data in index.files.items()))

    def fetched() -> list[str]:
        return sorted(path for path, _ in index.requests if path.endswith(".whl"))

    with ThreadPoolExecutor(max_workers=1) as pool:
        building = pool.submit(build_with, index, tmp_path, environment_lock=lock)
        try:
            deadline = time.monotonic() + 60
            while len(fetched()) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not building.done()
        finally:
            answered.set()
        package = building.result()
    assert fetched() == ["/files/evil-1.0-py3-none-any.whl", "/files/spare-1.0-py3-none-any.whl"]
    assert "evil.py" in members(package.app.path)
    assert "spare.py" not in members(package.app.path)
    assert [one.name for one in package.manifest.dependencies] == ["evil"]


def test_what_was_expected_elsewhere_is_fetched_from_where_it_is(
    tmp_path: Path, index: Index
) -> None:
    data = wheel("evil", "1.0", ("evil.py", b""))
    index.add("evil-1.0-py3-none-any.whl", data)
    gone = index.url.replace("/simple", "/gone") + "/evil-1.0-py3-none-any.none.whl"
    package = build_with(index, tmp_path, environment_lock=environment_lock((gone, data)))
    assert "evil.py" in members(package.app.path)


def test_data_folders_are_merged_as_pip_does(tmp_path: Path, index: Index) -> None:
    """purelib and platlib go to the top and win there; scripts stay where Chalice leaves them."""
    data = wheel(
        "evil",
        "1.0",
        ("evil-1.0.data/purelib/evil/pure.py", b"pure"),
        ("evil-1.0.data/platlib/evil/plat.py", b"plat"),
        ("evil-1.0.data/purelib/both.py", b"from data"),
        ("both.py", b"from top"),
        ("evil-1.0.data/scripts/run", b"#!python\n"),
        ("other-1.0.data/purelib/kept.py", b"another project's"),
    )
    index.add("evil-1.0-py3-none-any.whl", data)
    package = build_with(index, tmp_path)
    with zipfile.ZipFile(package.app.path) as archive:
        names = set(archive.namelist())
        assert {"evil/pure.py", "evil/plat.py", "evil-1.0.data/scripts/run"} <= names
        assert "other-1.0.data/purelib/kept.py" in names
        assert archive.read("both.py") == b"from data"


HOSTILE: dict[str, tuple[Entry, ...]] = {
    "a name that climbs": (("../../escape.py", b"x"),),
    "a name that climbs inside": (("evil/../../escape.py", b"x"),),
    "an absolute name": (("/etc/cron.d/evil", b"x"),),
    "a backslash": ((r"evil\..\escape.py", b"x"),),
    "a drive": (("c:/evil.py", b"x"),),
    "a dot": (("./evil.py", b"x"),),
    "an empty part": (("evil//x.py", b"x"),),
    "a line break": (("evil\n::error::.py", b"x"),),
    "a very long name": (("e" * 2000, b"x"),),
    "a link": ((link("evil/environ"), b"/proc/self/environ"),),
    "a bomb": (("evil/zeros", b"\0" * 30_000_000),),
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_wheel_is_refused_by_name(
    tmp_path: Path, index: Index, entries: tuple[Entry, ...]
) -> None:
    index.add("evil-1.0-py3-none-any.whl", wheel("evil", "1.0", *entries))
    assert_refused(tmp_path, index)


def broken_wheels() -> dict[str, bytes]:
    """Wheels whose zip lies: the directory says one thing, the bytes another."""
    text = b"some text that deflates, some text that deflates\n" * 50
    good = wheel("evil", "1.0", ("evil/a.py", text), ("evil/b.py", text))
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        a, b = archive.getinfo("evil/a.py"), archive.getinfo("evil/b.py")
    stored = zipfile.ZipInfo("evil/a.py")
    entry = good[b.header_offset : b.header_offset + 39 + b.compress_size]
    nested = wheel("evil", "1.0", (stored, entry), ("evil/b.py", text))
    inner = 39
    return {
        "encrypted": patched(good, "evil/a.py", central={8: b"\x01\0"}),
        "an unknown compression": patched(good, "evil/a.py", central={10: b"\x63\0"}),
        "a wrong checksum": patched(good, "evil/a.py", central={16: b"\0\0\0\0"}),
        "longer than it says": patched(
            good, "evil/a.py", central={24: struct.pack("<I", a.file_size - 1)}
        ),
        "shorter than it says": patched(
            good, "evil/a.py", central={24: struct.pack("<I", a.file_size + 1)}
        ),
        "two names for one entry": patched(good, "evil/a.py", local={30: b"evil/c.py"}),
        "one entry inside another": patched(
            nested, "evil/b.py", central={42: struct.pack("<I", inner)}
        ),
        "bytes behind the end": patched(
            good,
            "evil/a.py",
            central={20: struct.pack("<I", b.header_offset - a.header_offset - 39 + 60)},
        ),
        "cut off": good[: len(good) // 2],
        "not a zip": b"not a zip at all",
        "the same name twice": patched(good, "evil/b.py", central={46: b"evil/a.py"}),
    }


@pytest.mark.parametrize("data", broken_wheels().values(), ids=broken_wheels())
def test_a_wheel_whose_zip_lies_is_refused_by_name(
    tmp_path: Path, index: Index, data: bytes
) -> None:
    index.add("evil-1.0-py3-none-any.whl", data)
    assert_refused(tmp_path, index)


def assert_refused(folder: Path, index: Index) -> None:
    started = time.monotonic()
    with pytest.raises(PackageError) as caught:
        build_with(index, folder)
    assert time.monotonic() - started < 120
    error = caught.value
    assert error.exit_code is ExitCode.PACKAGE_FAILED
    assert "evil 1.0 is not usable" in error.what
    assert error.fix
    assert "\n::error::" not in str(error)
    assert list((folder / "out").glob("*")) == []
    assert not (folder / "escape.py").exists()


def test_a_wheel_that_is_not_what_was_locked_is_refused(tmp_path: Path, index: Index) -> None:
    """The index answers with other bytes than those it gave the hash of."""
    name = "evil-1.0-py3-none-any.whl"
    index.add(name, wheel("evil", "1.0", ("evil.py", b"good")))
    index.served_instead[name] = wheel("evil", "1.0", ("evil.py", b"bad!"))
    with pytest.raises(PackageError, match="its hash is another one"):
        build_with(index, tmp_path)
    assert list((tmp_path / "cache/wheels").glob("*.whl")) == []


CANARY = """
import pathlib
pathlib.Path({canary!r}).write_text("it ran")
from setuptools import setup
setup(name="evil", version="1.0")
"""


def test_an_sdist_is_not_built_and_named(tmp_path: Path, index: Index) -> None:
    canary = tmp_path / "canary"
    index.add("evil-1.0.tar.gz", sdist("evil", "1.0", CANARY.format(canary=str(canary))))
    with pytest.raises(PackageError) as caught:
        build_with(index, tmp_path)
    assert "evil" in caught.value.what
    assert "wheel" in caught.value.what
    assert "vendor/" in caught.value.fix
    assert not canary.exists()


def test_a_package_with_wheels_for_other_platforms_only_is_named(
    tmp_path: Path, index: Index
) -> None:
    for tag in ("cp312-cp312-win_amd64", "cp312-cp312-macosx_11_0_arm64", "cp39-cp39-linux_x86_64"):
        index.add(f"evil-1.0-{tag}.whl", wheel("evil", "1.0", ("evil.py", b"")))
    with pytest.raises(PackageError, match="evil") as caught:
        build_with(index, tmp_path)
    assert "3.12 on x86_64" in caught.value.what or "3.12, x86_64" in caught.value.what


@pytest.mark.parametrize(
    ("python", "kept"),
    [
        ("3.10", "evil-1.0-cp310-cp310-manylinux_2_26_x86_64.whl"),
        ("3.11", "evil-1.0-cp311-cp311-manylinux_2_26_x86_64.whl"),
        ("3.12", "evil-1.0-cp312-cp312-manylinux_2_34_x86_64.whl"),
        ("3.13", "evil-1.0-cp313-cp313-manylinux_2_34_x86_64.whl"),
        ("3.14", "evil-1.0-cp314-cp314-manylinux_2_34_x86_64.whl"),
    ],
)
def test_the_wheel_is_chosen_for_the_glibc_of_lambda(
    tmp_path: Path, index: Index, python: str, kept: str
) -> None:
    """Python 3.10 and 3.11 run on Amazon Linux 2 (glibc 2.26), later ones on 2023 (2.34)."""
    tag = f"cp{python.replace('.', '')}"
    for glibc in ("2_17", "2_26", "2_28", "2_34", "2_39"):
        name = f"evil-1.0-{tag}-{tag}-manylinux_{glibc}_x86_64.whl"
        index.add(name, wheel("evil", "1.0", ("evil.py", glibc.encode())))
    app_dir = project(tmp_path / "app", {"requirements.txt": "evil\n"})
    package = build(
        app_dir,
        out_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        environ=environ_for(index),
        python=python,
    )
    assert package.manifest.dependencies[0].wheel == kept


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        (("cp314-cp314-manylinux_2_34_aarch64", "cp314-cp314-manylinux_2_34_x86_64"), 0),
        (("cp314-cp314t-manylinux_2_28_aarch64", "cp310-abi3-manylinux2014_aarch64"), 1),
        (("cp315-cp315-manylinux_2_28_aarch64", "py3-none-any"), 1),
        (("cp314-cp314t-manylinux_2_28_aarch64", "cp314-cp314-manylinux_2_39_aarch64"), None),
        (("cp314-cp314-musllinux_1_2_aarch64", "cp313-cp313-manylinux_2_28_aarch64"), None),
    ],
)
def test_python_3_14_takes_the_wheels_that_its_runtime_can_load(
    tmp_path: Path, index: Index, tags: tuple[str, ...], kept: int | None
) -> None:
    """Amazon Linux 2023 on arm64: the build with the GIL, the stable ABI, nothing newer."""
    for tag in tags:
        index.add(f"evil-1.0-{tag}.whl", wheel("evil", "1.0", ("evil.py", tag.encode())))

    def built() -> str:
        package = build(
            project(tmp_path / "app", {"requirements.txt": "evil\n"}),
            out_dir=tmp_path / "out",
            cache_dir=tmp_path / "cache",
            environ=environ_for(index),
            python="3.14",
            architecture="arm64",
        )
        return package.manifest.dependencies[0].wheel

    if kept is not None:
        assert built() == f"evil-1.0-{tags[kept]}.whl"
        return
    with pytest.raises(PackageError, match="no wheel for Lambda") as caught:
        built()
    assert "evil" in caught.value.what
    assert "3.14" in caught.value.what


def test_an_older_version_is_taken_when_the_newest_needs_a_newer_glibc(
    tmp_path: Path, index: Index
) -> None:
    """uv has no name for glibc 2.26: what it chose for 2.28 is not shipped without a wheel."""
    index.add(
        "evil-2.0-cp311-cp311-manylinux_2_28_x86_64.whl", wheel("evil", "2.0", ("evil.py", b"2"))
    )
    index.add(
        "evil-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", wheel("evil", "1.0", ("evil.py", b"1"))
    )
    app_dir = project(tmp_path / "app", {"requirements.txt": "evil\n"})
    package = build(
        app_dir,
        out_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        environ=environ_for(index),
        python="3.11",
    )
    assert [d.version for d in package.manifest.dependencies] == ["1.0"]


def test_arm64_takes_wheels_for_arm64(tmp_path: Path, index: Index) -> None:
    for machine in ("x86_64", "aarch64"):
        name = f"evil-1.0-cp312-cp312-manylinux_2_17_{machine}.whl"
        index.add(name, wheel("evil", "1.0", ("evil.py", machine.encode())))
    app_dir = project(tmp_path / "app", {"requirements.txt": "evil\n"})
    package = build(
        app_dir,
        out_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        environ=environ_for(index),
        architecture="arm64",
    )
    assert "aarch64" in package.manifest.dependencies[0].wheel


def test_an_index_with_a_password_is_used_and_never_shown(tmp_path: Path, index: Index) -> None:
    index.password = "canary-4711"
    index.add("evil-1.0-py3-none-any.whl", wheel("evil", "1.0", ("evil.py", b"x")))
    package = build_with(index, tmp_path, user="reader:canary-4711")
    assert "evil.py" in members(package.app.path)
    assert "canary-4711" not in package.manifest.text
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file() and path.stat().st_size < 1_000_000:
            assert b"canary-4711" not in path.read_bytes(), path


def test_a_wrong_password_is_told_without_it(tmp_path: Path, index: Index) -> None:
    index.password = "right"
    index.add("evil-1.0-py3-none-any.whl", wheel("evil", "1.0", ("evil.py", b"x")))
    with pytest.raises(PackageError) as caught:
        build_with(index, tmp_path, user="reader:canary-4711")
    assert "canary-4711" not in str(caught.value)


def test_credentials_go_to_their_own_server_only(tmp_path: Path, index: Index) -> None:
    """A wheel that lies elsewhere is fetched without them."""
    with serve(Index()) as elsewhere:
        data = wheel("evil", "1.0", ("evil.py", b"x"))
        elsewhere.add("evil-1.0-py3-none-any.whl", data)
        index.password = "canary-4711"
        index.add("evil-1.0-py3-none-any.whl", data)
        files = elsewhere.url.replace("/simple", "/files")
        page = index.project
        index.project = lambda name: page(name).replace("/files", files)
        other = f"{environ_for(elsewhere)['UV_DEFAULT_INDEX']}"
        package = build_with(index, tmp_path, user="reader:canary-4711", UV_EXTRA_INDEX_URL=other)
        assert "evil.py" in members(package.app.path)
        assert {authorization for _, authorization in elsewhere.requests} == {""}


def test_a_wheel_without_tls_is_not_fetched(tmp_path: Path, index: Index) -> None:
    """Only an index that the operator named without TLS may be one without it."""
    with serve(Index()) as elsewhere:
        data = wheel("evil", "1.0", ("evil.py", b"x"))
        elsewhere.add("evil-1.0-py3-none-any.whl", data)
        index.add("evil-1.0-py3-none-any.whl", data)
        files = elsewhere.url.replace("/simple", "/files")
        page = index.project
        index.project = lambda name: page(name).replace("/files", files)
        with pytest.raises(PackageError, match="does not begin with https"):
            build_with(index, tmp_path)


@pytest.mark.parametrize("line", ["evil==1.0", "evil>=1,<2", "evil[extra]~=1.0", "Evil==1.*"])
def test_versions_ranges_and_extras_are_resolved(tmp_path: Path, index: Index, line: str) -> None:
    for version in ("1.0", "2.0"):
        index.add(f"evil-{version}-py3-none-any.whl", wheel("evil", version, ("evil.py", b"x")))
    package = build_with(index, tmp_path, f"{line}\n")
    assert [d.version for d in package.manifest.dependencies] == ["1.0"]


def test_hashes_are_honoured(tmp_path: Path, index: Index) -> None:
    data = wheel("evil", "1.0", ("evil.py", b"x"))
    index.add("evil-1.0-py3-none-any.whl", data)
    digest = hashlib.sha256(data).hexdigest()
    package = build_with(index, tmp_path / "right", f"evil==1.0 --hash=sha256:{digest}\n")
    assert package.manifest.dependencies[0].sha256 == digest
    with pytest.raises(PackageError, match=r"evil==1\.0"):
        build_with(index, tmp_path / "wrong", f"evil==1.0 --hash=sha256:{'0' * 64}\n")


def test_a_package_without_a_hash_is_refused_where_others_have_one(
    tmp_path: Path, index: Index
) -> None:
    data = wheel("evil", "1.0", ("evil.py", b"x"))
    index.add("evil-1.0-py3-none-any.whl", data)
    index.add("other-1.0-py3-none-any.whl", wheel("other", "1.0", ("other.py", b"x")))
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(PackageError, match=r"other==1\.0"):
        build_with(index, tmp_path, f"evil==1.0 --hash=sha256:{digest}\nother==1.0\n")


def test_what_is_not_in_the_index_is_named(tmp_path: Path, index: Index) -> None:
    with pytest.raises(PackageError, match="`evil` is not in the package index"):
        build_with(index, tmp_path)


def test_everything_that_cannot_be_had_is_named_at_once(tmp_path: Path, index: Index) -> None:
    index.add("evil-1.0-cp312-cp312-win_amd64.whl", wheel("evil", "1.0", ("evil.py", b"x")))
    index.add("other-1.0.tar.gz", sdist("other", "1.0", "raise SystemExit"))
    index.add("good-1.0-py3-none-any.whl", wheel("good", "1.0", ("good.py", b"x")))
    with pytest.raises(PackageError) as caught:
        build_with(index, tmp_path, "evil==1.0\nother==1.0\ngood==1.0\nnowhere==1.0\ngood==7\n")
    for name in ("`evil==1.0`", "`other==1.0`", "`nowhere`", "`good==7`"):
        assert name in caught.value.what
    assert "good==1.0" not in caught.value.what
    assert "vendor/" in caught.value.fix


def test_every_line_without_a_wheel_is_named_with_the_next_version_that_has_one(
    tmp_path: Path, index: Index
) -> None:
    index.add("evil-1.0.tar.gz", sdist("evil", "1.0", "raise SystemExit"))
    index.add("evil-1.1.tar.gz", sdist("evil", "1.1", "raise SystemExit"))
    for version in ("1.2", "3.0"):
        index.add(f"evil-{version}-py3-none-any.whl", wheel("evil", version))
    index.add("lone-2.0.tar.gz", sdist("lone", "2.0", "raise SystemExit"))
    index.add("good-1.0-py3-none-any.whl", wheel("good", "1.0"))

    requirements = "good==1.0\nevil==1.0\nlone==2.0\nnowhere\n"

    with pytest.raises(PackageError) as caught:
        build(
            project(tmp_path / "app", {"requirements.txt": requirements}),
            repo_root=tmp_path,
            out_dir=tmp_path / "out",
            cache_dir=tmp_path / "cache",
            environ=environ_for(index),
        )

    assert "`evil==1.0` (app/requirements.txt:2, 1.2 has one)" in caught.value.what
    assert "`lone==2.0` (app/requirements.txt:3)" in caught.value.what
    assert "`nowhere` is not in the package index" in caught.value.what
    assert "good" not in caught.value.what
    assert caught.value.where == "app/requirements.txt"
    assert "Pin a version that has a wheel" in caught.value.fix
    assert "Look at the spelling" in caught.value.fix


def test_what_contradicts_is_told(tmp_path: Path, index: Index) -> None:
    for version in ("1.0", "2.0"):
        index.add(f"evil-{version}-py3-none-any.whl", wheel("evil", version, ("evil.py", b"x")))
    with pytest.raises(PackageError) as caught:
        build_with(index, tmp_path, "evil==1.0\nevil==2.0\n")
    assert "evil==1.0" in caught.value.what
    assert "evil==2.0" in caught.value.what


def test_an_unreachable_index_is_told(tmp_path: Path) -> None:
    app_dir = project(tmp_path / "app", {"requirements.txt": "evil==1.0\n"})
    environ = {
        "PATH": os.environ["PATH"],
        "UV_DEFAULT_INDEX": "http://reader:canary-4711@127.0.0.1:9/simple",
        "UV_HTTP_TIMEOUT": "2",
    }
    with pytest.raises(PackageError, match="could not be reached") as caught:
        build(app_dir, out_dir=tmp_path / "out", cache_dir=tmp_path / "cache", environ=environ)
    assert "canary-4711" not in str(caught.value)
