"""The same project gives the same bytes, whatever is around it; and nothing else gets in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from chalice_ci.errors import ExitCode, PackageError
from chalice_ci.package.archive import Written
from chalice_ci.package.limits import MAX_UNPACKED, MAX_ZIPPED, check_size
from chalice_ci.package.manifest import Archive, Dependency, FileEntry, Manifest
from chalice_ci.package.wheels import Member
from support.index import Index, serve, wheel
from support.packages import build, installed_chalice, members, project

FILES: dict[str, str | bytes] = {
    "requirements.txt": "beta==1.0\nalpha==1.0\n",
    "app.py": "app = None\n",
    "chalicelib/__init__.py": "",
    "chalicelib/z/a.py": "a = 1\n" * 100,
    "chalicelib/été.txt": "summer\n",
    "vendor/tool": "#!/bin/sh\n",
    "vendor/zeta/x.py": "x = 1\n",
}


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    content = b"".join(b"%d = line\n" % number for number in range(2000))
    with serve(Index()) as running:
        for name in ("alpha", "beta", "gamma"):
            entries = tuple((f"{name}/m{n}.py", content + bytes([n])) for n in range(20))
            running.add(f"{name}-1.0-py3-none-any.whl", wheel(name, "1.0", *entries))
        yield running


@pytest.fixture
def environ(index: Index) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "UV_DEFAULT_INDEX": index.url}


def made(folder: Path, files: Mapping[str, str | bytes] = FILES) -> Path:
    app_dir = project(folder, files)
    if (app_dir / "vendor/tool").exists():
        (app_dir / "vendor/tool").chmod(0o755)
    return app_dir


def test_the_zip_is_sorted_with_fixed_times_and_modes(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    package = build(
        made(tmp_path / "app"),
        out_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        environ=environ,
    )
    with zipfile.ZipFile(package.app.path) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
    names = [info.filename for info in infos]
    assert names == sorted(names, key=str.encode)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.extra for info in infos} == {b""}
    assert {info.filename for info in infos if info.external_attr >> 16 == 0o100755} == {"tool"}
    assert {info.external_attr >> 16 for info in infos} == {0o100755, 0o100644}
    assert "chalicelib/été.txt" in names
    assert package.app.entries == len(infos)
    assert package.app.size == package.app.path.stat().st_size
    assert package.app.unpacked_size == sum(info.file_size for info in infos)


def test_other_tools_can_unpack_the_zip(tmp_path: Path, environ: Mapping[str, str]) -> None:
    package = build(
        made(tmp_path / "app"),
        out_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        environ=environ,
    )
    unzip = shutil.which("unzip")
    if unzip is None:
        pytest.skip("unzip is not on this machine")
    done = subprocess.run(
        [unzip, "-t", str(package.app.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "No errors detected" in done.stdout


def test_an_edit_of_the_app_copies_the_dependencies_as_they_were_kept(
    tmp_path: Path, index: Index, environ: Mapping[str, str]
) -> None:
    app_dir = made(tmp_path / "app")
    places = {"out_dir": tmp_path / "out", "cache_dir": tmp_path / "cache", "environ": environ}
    before = build(app_dir, **places)
    shutil.rmtree(tmp_path / "cache/wheels")
    asked = len(index.requests)
    (app_dir / "app.py").write_text("app = 'edited'\n")
    kept = {path: path.stat().st_ino for path in (tmp_path / "cache/archives").iterdir()}
    after = build(app_dir, **places)
    assert after.app.sha256 != before.app.sha256
    changed = {
        name
        for name, value in members(after.app.path).items()
        if members(before.app.path)[name] != value
    }
    assert changed == {"app.py"}
    still = {path: path.stat().st_ino for path in (tmp_path / "cache/archives").iterdir()}
    assert still == kept
    assert len(index.requests) == asked


@pytest.mark.parametrize(
    "what",
    ["archives/*.bin", "archives/*.json", "wheels/*.whl", "wheels/*.json", "locks/*.toml"],
)
def test_a_damaged_cache_is_noticed_and_made_anew(
    tmp_path: Path, environ: Mapping[str, str], what: str
) -> None:
    """A file of the cache is believed for its hash, never for its name."""
    app_dir = made(tmp_path / "app")
    places = {"out_dir": tmp_path / "out", "cache_dir": tmp_path / "cache", "environ": environ}
    before = build(app_dir, **places)
    shutil.rmtree(tmp_path / "out")
    damaged = list((tmp_path / "cache").glob(what))
    assert damaged
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    if what.startswith("wheels"):
        shutil.rmtree(tmp_path / "cache/archives")
    assert build(app_dir, **places).app.sha256 == before.app.sha256
    for path in damaged:
        path.write_bytes(b"")
    if what.startswith("wheels"):
        shutil.rmtree(tmp_path / "cache/archives")
    after = build(app_dir, **places)
    assert after.app.sha256 == before.app.sha256
    with zipfile.ZipFile(after.app.path) as archive:
        assert archive.testzip() is None


def test_what_is_kept_of_one_wheel_is_not_believed_of_another(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    """The tables are whole, and each has the other's name."""
    app_dir = made(tmp_path / "app")
    places = {"out_dir": tmp_path / "out", "cache_dir": tmp_path / "cache", "environ": environ}
    before = build(app_dir, **places)
    one, other = sorted((tmp_path / "cache/wheels").glob("*.json"))
    texts = one.read_bytes(), other.read_bytes()
    one.write_bytes(texts[1])
    other.write_bytes(texts[0])
    shutil.rmtree(tmp_path / "cache/archives")
    assert build(app_dir, **places).app.sha256 == before.app.sha256


def test_builds_at_the_same_time_share_a_cache(tmp_path: Path, environ: Mapping[str, str]) -> None:
    apps = [made(tmp_path / f"app{n}", {**FILES, "app.py": f"app = {n % 2}\n"}) for n in range(6)]
    digests: dict[int, str] = {}

    def run(number: int) -> None:
        package = build(
            apps[number],
            out_dir=tmp_path / "out",
            cache_dir=tmp_path / "cache",
            environ=environ,
        )
        digests[number] = package.app.sha256

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(apps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == len(apps)
    assert digests[0] == digests[2] == digests[4]
    assert digests[1] == digests[3] == digests[5]
    leftovers = [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]
    assert leftovers == []


def test_the_manifest_tells_every_file_and_dependency(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    package = build(
        made(tmp_path / "app"),
        out_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        environ=environ,
    )
    told = json.loads(package.manifest.text)
    assert told["archives"] == {"app": package.app.sha256}
    assert [file["path"] for file in told["files"]] == list(members(package.app.path))
    by_name = {file["path"]: file for file in told["files"]}
    assert by_name["alpha/m1.py"]["dependency"] == "alpha"
    assert by_name["zeta/x.py"]["dependency"] == by_name["chalice/app.py"]["dependency"] == ""
    assert [d["name"] for d in told["dependencies"]] == ["alpha", "beta"]
    assert sum(d["packed"] for d in told["dependencies"]) < package.app.size
    with zipfile.ZipFile(package.app.path) as archive:
        for file in told["files"]:
            data = archive.read(file["path"])
            assert len(data) == file["size"]
            assert hashlib.sha256(data).hexdigest() == file["sha256"]


def test_includes_and_constraints_decide_what_is_in_it(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    repository = tmp_path / "repository"
    project(
        repository, {"shared/base.txt": "alpha\n", "shared/bounds.txt": "gamma==9\nbeta==1.0\n"}
    )
    app_dir = made(
        repository / "services/app",
        {"requirements.txt": "-r ../../shared/base.txt\n-c ../../shared/bounds.txt\nbeta\n"},
    )
    package = build(
        app_dir,
        repo_root=repository,
        out_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        environ=environ,
    )
    assert [d.name for d in package.manifest.dependencies] == ["alpha", "beta"]


def test_markers_are_those_of_lambda(tmp_path: Path, environ: Mapping[str, str]) -> None:
    lines = [
        'alpha; sys_platform == "linux"',
        'beta; sys_platform == "win32"',
        'gamma; python_version < "3.12"',
    ]
    app_dir = made(tmp_path / "app", {"requirements.txt": "\n".join(lines)})
    package = build(
        app_dir, out_dir=tmp_path / "out", cache_dir=tmp_path / "cache", environ=environ
    )
    assert [d.name for d in package.manifest.dependencies] == ["alpha"]


# --- what does not get in -------------------------------------------------------------------------


def refused(folder: Path, app_dir: Path, **more: object) -> PackageError:
    with pytest.raises(PackageError) as caught:
        build(
            app_dir,
            out_dir=folder / "out",
            cache_dir=folder / "cache",
            environ={"PATH": os.environ["PATH"]},
            **more,  # type: ignore[arg-type]
        )
    assert list((folder / "out").glob("*.zip")) == []
    return caught.value


@pytest.mark.parametrize("place", ["app.py", "chalicelib/x.py", "vendor/x.py", "vendor/folder"])
@pytest.mark.parametrize("target", ["/proc/self/environ", "../../secret", "/etc"])
def test_a_link_out_of_the_project_is_refused(tmp_path: Path, place: str, target: str) -> None:
    app_dir = project(tmp_path / "app", {"chalicelib/a.py": "", "vendor/a.py": ""})
    (tmp_path / "secret").write_text("canary")
    (app_dir / place).unlink(missing_ok=True)
    (app_dir / place).symlink_to(target)
    if place == "chalicelib/x.py" and target == "/etc":
        # As Chalice: links to folders are not followed there.
        package = build(app_dir, out_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
        assert not any("etc" in name for name in members(package.app.path))
        return
    error = refused(tmp_path, app_dir)
    assert place.rsplit("/", maxsplit=1)[-1] in error.where
    assert "leaves the project" in error.what or "leads nowhere" in error.what


def test_a_link_into_the_folder_of_git_is_refused(tmp_path: Path) -> None:
    """`.git/config` may hold the token of the checkout."""
    app_dir = project(tmp_path / "app", {".git/config": "token", "vendor/a.py": ""})
    (app_dir / "vendor/config").symlink_to("../.git/config")
    assert "leaves the project" in refused(tmp_path, app_dir).what


def test_a_link_inside_the_repository_is_followed(tmp_path: Path) -> None:
    repository = project(tmp_path / "repository", {"shared/lib/deep/x.py": "shared = 1\n"})
    app_dir = project(repository / "services/app", {"vendor/a.py": "", "chalicelib/a.py": ""})
    (app_dir / "vendor/lib").symlink_to("../../../shared/lib")
    (app_dir / "chalicelib/x.py").symlink_to("../../../shared/lib/deep/x.py")
    package = build(
        app_dir, repo_root=repository, out_dir=tmp_path / "out", cache_dir=tmp_path / "cache"
    )
    assert {"lib/deep/x.py", "chalicelib/x.py"} <= set(members(package.app.path))


def test_links_that_go_round_are_refused(tmp_path: Path) -> None:
    app_dir = project(tmp_path / "app", {"vendor/a/b.py": ""})
    (app_dir / "vendor/a/again").symlink_to("..")
    assert "never end" in refused(tmp_path, app_dir).what


@pytest.mark.parametrize(
    "place", ["app.py", "chalicelib", "chalicelib/loop", "vendor", "vendor/loop"]
)
def test_a_link_to_itself_is_refused(tmp_path: Path, place: str) -> None:
    app_dir = project(tmp_path / "app", {})
    (app_dir / place).unlink(missing_ok=True)
    (app_dir / place).parent.mkdir(exist_ok=True)
    (app_dir / place).symlink_to((app_dir / place).name)
    error = refused(tmp_path, app_dir)
    assert (error.where, error.what) == (place, "this link leads nowhere.")


def test_a_folder_in_the_place_of_the_app_is_refused(tmp_path: Path) -> None:
    app_dir = project(tmp_path / "app", {})
    (app_dir / "app.py").unlink()
    (app_dir / "app.py").mkdir()
    error = refused(tmp_path, app_dir)
    assert error.where == "app.py"
    assert "a folder" in error.what


def test_a_file_in_the_place_of_a_folder_is_refused(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    """A zip may hold `alpha` and `alpha/m0.py`, and nothing can unpack it."""
    app_dir = project(
        tmp_path / "app", {"requirements.txt": "alpha==1.0\n", "vendor/alpha": "a file\n"}
    )
    with pytest.raises(PackageError, match="a file of the project and a folder of alpha") as caught:
        build(app_dir, out_dir=tmp_path / "out", cache_dir=tmp_path / "cache", environ=environ)
    assert caught.value.where == "alpha"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("place", ["app.py", "chalicelib/pipe", "vendor/pipe"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, place: str) -> None:
    app_dir = project(tmp_path / "app", {"chalicelib/a.py": "", "vendor/a.py": ""})
    (app_dir / place).unlink(missing_ok=True)
    os.mkfifo(app_dir / place)
    assert "pipe" in refused(tmp_path, app_dir).what


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    app_dir = project(tmp_path / "app", {"vendor/a.py": ""})
    Path(os.fsdecode(os.fsencode(app_dir / "vendor") + b"/\xff\x1b[31m.py")).write_text("")
    error = refused(tmp_path, app_dir)
    assert "cannot be in a package" in error.what
    assert "\x1b" not in str(error)


def test_without_an_app_there_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    assert "no app.py" in refused(tmp_path, tmp_path / "app").what


def test_a_zip_over_the_limit_is_refused_with_the_ten_that_are_largest(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    """Dependencies and files of the project, by their part of the zip, and what to do."""
    large = {f"vendor/{n:02}.bin": os.urandom(3000 + n) for n in range(12)}
    app_dir = made(tmp_path / "app", {**FILES, **large})
    with pytest.raises(PackageError) as caught:
        build(
            app_dir,
            out_dir=tmp_path / "out",
            cache_dir=tmp_path / "cache",
            environ=environ,
            max_size=1000,
        )
    assert caught.value.exit_code is ExitCode.PACKAGE_FAILED
    assert "the limit in chalice-ci.yml is 0.0 MiB" in caught.value.what
    _, _, listed = caught.value.what.partition("The largest are: ")
    names = [part.split()[0] for part in listed.split(", ")]
    assert len(names) == 10
    assert "alpha" in names or "chalice/app.py" in names
    assert [n for n in names if n.endswith(".bin")] == sorted(
        (n for n in names if n.endswith(".bin")), reverse=True
    )
    assert "automatic_layer" in caught.value.fix


@pytest.mark.parametrize(("packed", "named"), [(9_000_000, True), (11_000, False)])
def test_the_advice_names_what_lambda_brings_where_that_helps(packed: int, named: bool) -> None:
    member = Member(
        name="six.py",
        crc=0,
        size=packed,
        packed=packed,
        method=0,
        offset=0,
        executable=False,
        sha256="0" * 64,
    )
    archive = Archive(
        slot="app", path=Path("a.zip"), sha256="0" * 64, size=2**30, unpacked_size=1, entries=1
    )
    six = Dependency(
        name="six", version="1", size=packed, packed=packed, direct=True, wheel="", sha256=""
    )
    manifest = Manifest(
        python="3.12",
        architecture="x86_64",
        chalice="1.34.0",
        dependencies=(six,),
        files=(),
        digests=(),
    )
    with pytest.raises(PackageError) as caught:
        check_size([Written(archive=archive, members=((member, "six"),))], manifest, None)
    assert ("Lambda brings anyway (six)" in caught.value.fix) is named


def test_the_rows_of_a_manifest_are_what_the_encoder_writes() -> None:
    odd = 'a"b\\c\n\x00é\u2028.py'
    files = tuple(
        FileEntry(slot="app", path=path, size=2**40, sha256="0" * 64, dependency=odd)
        for path in ("plain.py", odd)
    )
    manifest = Manifest(
        python="3.12", architecture="arm64", chalice="1", dependencies=(), files=files, digests=()
    )
    rows = [json.dumps(one._asdict(), sort_keys=True, ensure_ascii=False) for one in files]
    assert [row for row in rows if row not in manifest.text] == []
    assert json.loads(manifest.text)["files"] == [one._asdict() for one in files]


def test_more_than_lambda_unpacks_is_refused(tmp_path: Path) -> None:
    app_dir = project(tmp_path / "app", {"vendor/a.py": ""})
    with (app_dir / "vendor/zeros").open("wb") as file:
        file.truncate(MAX_UNPACKED + 1)
    error = refused(tmp_path, app_dir)
    assert "unpacks to" in error.what


def test_more_than_lambda_takes_as_a_zip_is_refused(tmp_path: Path) -> None:
    app_dir = project(tmp_path / "app", {"vendor/random": os.urandom(53 * 1024 * 1024)})
    error = refused(tmp_path, app_dir)
    assert "Lambda's limit is 50.0 MiB" in error.what
    assert "configure `package-bucket`" in error.fix
    package = build(
        app_dir, out_dir=tmp_path / "out", cache_dir=tmp_path / "cache", through_bucket=True
    )
    assert package.app.size > MAX_ZIPPED


def test_chalice_comes_from_the_folder_that_is_named(tmp_path: Path) -> None:
    """Never from vendor/ of the dependencies' wheels: their `chalice` folder is left out."""
    package = build(
        project(tmp_path / "app", {}), out_dir=tmp_path / "out", cache_dir=tmp_path / "cache"
    )
    with zipfile.ZipFile(package.app.path) as archive:
        genuine = (installed_chalice() / "app.py").read_bytes()
        assert archive.read("chalice/app.py") == genuine


def test_a_dependency_cannot_replace_chalice(tmp_path: Path) -> None:
    with serve(Index()) as index:
        data = wheel("evil", "1.0", ("chalice/app.py", b"stolen"), ("chalice/more.py", b""))
        index.add("evil-1.0-py3-none-any.whl", data)
        package = build(
            project(tmp_path / "app", {"requirements.txt": "evil\n"}),
            out_dir=tmp_path / "out",
            cache_dir=tmp_path / "cache",
            environ={"PATH": os.environ["PATH"], "UV_DEFAULT_INDEX": index.url},
        )
    with zipfile.ZipFile(package.app.path) as archive:
        assert archive.read("chalice/app.py") == (installed_chalice() / "app.py").read_bytes()
        assert "chalice/more.py" not in archive.namelist()
