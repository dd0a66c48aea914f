"""requirements.txt is read here: each line becomes a requirement, a setting, or a problem."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalice_ci.errors import PackageError
from chalice_ci.findings import Place
from chalice_ci.package.references import Kind, Reference
from chalice_ci.package.requirements import Requirements, read_requirements
from chalice_ci.package.variables import Variables
from support.packages import build, project


def read(folder: Path, text: str | bytes, **more: str | bytes) -> Requirements:
    files = {name.replace("__", "/").replace("_txt", ".txt"): data for name, data in more.items()}
    project(folder, {"requirements.txt": text, **files})
    return read_requirements(folder, repo_root=folder)


def texts(requirements: Requirements) -> list[str]:
    assert requirements.problems == ()
    return [entry.text for entry in requirements.entries]


def test_pins_ranges_extras_and_markers_are_requirements(tmp_path: Path) -> None:
    text = """
    # a comment
    requests == 2.32.5
    boto3>=1.34,<2   # another one
    sqlalchemy[asyncio, postgresql]~=2.0 ; python_version >= "3.10"
    Flask
    pkg#notacomment
    """.replace("    pkg#notacomment\n", "")
    assert texts(read(tmp_path, text)) == [
        "requests==2.32.5",
        "boto3<2,>=1.34",
        'sqlalchemy[asyncio,postgresql]~=2.0; python_version >= "3.10"',
        "Flask",
    ]


def test_continued_lines_are_one_and_keep_the_first_line_number(tmp_path: Path) -> None:
    digest = "a" * 64
    text = f"six\nrequests==2.32.5 \\\n    --hash=sha256:{digest} \\\n    --hash sha256:{digest}\n"
    requirements = read(tmp_path, text)
    entry = requirements.entries[1]
    assert requirements.problems == ()
    assert (entry.at.file, entry.at.line) == ("requirements.txt", 2)
    assert entry.hashes == (("sha256", digest), ("sha256", digest))
    assert requirements.require_hashes


def test_a_comment_ends_a_continued_line_as_pip_has_it(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "requests \\\n# stop\nsix\n")) == ["requests", "six"]


def test_includes_and_constraints_are_followed_once(tmp_path: Path) -> None:
    requirements = read(
        tmp_path,
        "-r more.txt\n--requirement=deep/other.txt\n-c bounds.txt\nsix\n",
        more_txt="requests\n-r requirements.txt\n",
        deep__other_txt="-r ../more.txt\nboto3\n",
        bounds_txt="urllib3<2\n-r requirements.txt\n",
    )
    assert texts(requirements) == ["requests", "boto3", "six"]
    names = [entry.name for entry in requirements.constraints]
    assert names[0] == "urllib3"
    assert set(requirements.files) >= {"requirements.txt", "more.txt", "deep/other.txt"}


def test_indexes_are_settings(tmp_path: Path) -> None:
    text = (
        "-i https://one.example/simple\n--extra-index-url=https://two.example/simple\n"
        "--extra-index-url https://two.example/simple\n--pre\n--prefer-binary\n"
        "--only-binary :all:\n--require-hashes\nsix\n"
    )
    requirements = read(tmp_path, text)
    assert requirements.problems == ()
    assert requirements.index_url == "https://one.example/simple"
    assert requirements.extra_index_urls == ("https://two.example/simple",)
    assert requirements.pre
    assert requirements.require_hashes


def test_places_of_wheels_are_settings(tmp_path: Path) -> None:
    """A folder of the project, a page of a server, and no index beside them."""
    text = "--no-index\n-f wheels\n--find-links=https://example.org/links\n"
    requirements = read(tmp_path, text, wheels__a_txt="")
    assert requirements.problems == ()
    assert requirements.no_index
    assert requirements.link_folders == ("wheels",)
    assert requirements.find_links == ("https://example.org/links",)


SHA256 = "ab" * 32
WHEEL = "https://r:secret@example.org/x-1.0-py3-none-any.whl"
REFERENCES = {
    f"x[a,b] @ {WHEEL}#sha256={SHA256} ; os_name=='x'": (
        Reference(
            kind=Kind.WHEEL,
            address=WHEEL,
            at=Place(file="requirements.txt", line=1),
            name="x",
            extras=("a", "b"),
            marker="os_name=='x'",
            sha256=SHA256,
        )
    ),
    "git+https://example.org/x.git@v1#egg=Some_Name&subdirectory=a/b": Reference(
        kind=Kind.REPOSITORY,
        address="https://example.org/x.git",
        at=Place(file="requirements.txt", line=1),
        name="some-name",
        revision="v1",
        subdirectory="a/b",
    ),
    "-e ./lib[fast]": Reference(
        kind=Kind.PATH,
        address="lib",
        at=Place(file="requirements.txt", line=1),
        name="mine",
        extras=("fast",),
    ),
    "--editable=lib": Reference(
        kind=Kind.PATH, address="lib", at=Place(file="requirements.txt", line=1), name="mine"
    ),
    f"https://example.org/x-2.tar.gz --hash=sha256:{SHA256}": Reference(
        kind=Kind.ARCHIVE,
        address="https://example.org/x-2.tar.gz",
        at=Place(file="requirements.txt", line=1),
        sha256=SHA256,
    ),
}


@pytest.mark.parametrize("line", REFERENCES)
def test_a_requirement_may_name_a_place_where_building_is_allowed(
    tmp_path: Path, line: str
) -> None:
    project(tmp_path, {"requirements.txt": line, "lib/pyproject.toml": "[project]\nname='Mine'\n"})
    requirements = read_requirements(tmp_path, repo_root=tmp_path, build=[":all:"])
    assert requirements.problems == ()
    assert requirements.references == (REFERENCES[line],)
    assert "secret" not in repr(requirements)


def test_what_may_be_built_is_named(tmp_path: Path) -> None:
    text = "git+https://example.org/x.git#egg=One.Name\n-e git+https://example.org/y#egg=two\n"
    project(tmp_path, {"requirements.txt": f"{text}six\n--no-binary six,seven\n"})
    requirements = read_requirements(tmp_path, repo_root=tmp_path, build=["one_name", "Six"])
    assert [one.name for one in requirements.references] == ["one-name"]
    assert requirements.from_source == ("six",)
    assert [problem.at and problem.at.line for problem in requirements.problems] == [2, 4]
    assert "package: {build: [two]}" in requirements.problems[0].fix
    assert "package: {build: [seven]}" in requirements.problems[1].fix


ALLOWED = Variables(
    servers={
        "USER_1": "index.example.org",
        "TOKEN": "index.example.org",
        "EMPTY": "index.example.org",
    }
    | {
        "COMMA": "index.example.org",
        "ODD": "index.example.org",
        "GIT": "git.example.org:8443",
        "NESTED": "index.example.org",
    },
    environ={
        **{"USER_1": "reader", "TOKEN": "canary-4711%2F", "EMPTY": "", "OTHER": "canary-4711"},
        **{
            "COMMA": "canary,4711",
            "ODD": "canary-4711/@evil.example/",
            "GIT": "canary-4711",
            "NESTED": "${OTHER}",
        },
    },
)


def test_variables_are_expanded_in_the_credentials_of_their_own_server(tmp_path: Path) -> None:
    """pip's `${NAME}`, in each kind of line that has an address; nothing shows a value."""
    text = (
        "-i https://${USER_1}:${TOKEN}@index.example.org/simple\n"
        "--extra-index-url=https://${TOKEN}@Index.example.org/other/simple\n"
        "-f https://${TOKEN}@index.example.org\n"
        "one @ https://${USER_1}:${TOKEN}@index.example.org/one-1.0-py3-none-any.whl ; os_name>''\n"
        "git+https://${GIT}@git.example.org:8443/two.git@v1#egg=two\n"
        "six # ${OTHER}\n"
    )
    project(tmp_path, {"requirements.txt": text})
    requirements = read_requirements(
        tmp_path, repo_root=tmp_path, build=[":all:"], variables=ALLOWED
    )
    assert requirements.problems == ()
    secret = "canary-4711%2F"
    assert requirements.index_url == f"https://reader:{secret}@index.example.org/simple"
    assert requirements.extra_index_urls == (f"https://{secret}@Index.example.org/other/simple",)
    assert requirements.find_links == (f"https://{secret}@index.example.org",)
    one, two = requirements.references
    assert one.address == f"https://reader:{secret}@index.example.org/one-1.0-py3-none-any.whl"
    assert (two.address, two.name) == ("https://canary-4711@git.example.org:8443/two.git", "two")
    assert "canary" not in repr(requirements)


NOT_EXPANDED = {
    "-i https://${OTHER}@index.example.org/": "`package: {variables: {OTHER: index.example.org}}`",
    "-i https://${TOKEN}@evil.example/": "is for index.example.org",
    "-i https://${TOKEN}@index.example.org.evil.example/": "is for index.example.org",
    "-i https://${TOKEN}@index.example.org:444/": "is for index.example.org",
    "-i https://${GIT}@git.example.org/": "is for git.example.org:8443",
    "-i https://${TOKEN}@index.example.org@evil.example/": "anywhere else",
    "-i https://evil.example\\@${TOKEN}@index.example.org/": "anywhere else",
    "-i https://evil.example/@${TOKEN}@index.example.org/": "anywhere else",
    "-i https://evil.example#${TOKEN}@index.example.org/": "anywhere else",
    "-i https://evil.example?${TOKEN}@index.example.org/": "anywhere else",
    "-i https://${TOKEN}@index.example.org\\.evil.example/": "anywhere else",
    "-i https://index.example.org/${TOKEN}/simple": "anywhere else",
    "-i https://${TOKEN}.evil.example/": "anywhere else",
    "-i ${TOKEN}": "anywhere else",
    "-i ftp://${TOKEN}@index.example.org/": "anywhere else",
    "-i https://${EMPTY}@index.example.org/": "is not set",
    "-i https://${ODD}@index.example.org/": "percent-encode",
    "-i https://${NESTED}@index.example.org/": "percent-encode",
    "x==${TOKEN}": "anywhere else",
    "-f https://${TOKEN},x@index.example.org/": "anywhere else",
    "-f https://${COMMA}@index.example.org/": "percent-encode",
}


@pytest.mark.parametrize("line", NOT_EXPANDED)
def test_a_variable_goes_to_no_other_server_and_to_no_other_place(
    tmp_path: Path, line: str
) -> None:
    project(tmp_path, {"requirements.txt": f"{line}\n"})
    requirements = read_requirements(tmp_path, repo_root=tmp_path, variables=ALLOWED)
    (problem,) = requirements.problems
    assert NOT_EXPANDED[line].lower() in f"{problem.what} {problem.fix}".lower()
    assert requirements.index_url is None
    assert "canary" not in repr(requirements)


@pytest.mark.parametrize(
    "line",
    [
        "x @ https://${LONG}@index.example.org/x-1.0-py3-none-any.whl --hash=md5:0",
        "x @ https://${LONG}@index.example.org/nothing",
        "git+ssh://x@y https://${LONG}@index.example.org/",
        "-r https://${LONG}@index.example.org/r.txt",
        "--no-binary https://${LONG}@index.example.org/",
        "--unheard-of=https://${LONG}@index.example.org/",
        "-zhttps://${LONG}@index.example.org/",
        "-e https://${LONG}@index.example.org/x",
        "!! https://${LONG}@index.example.org/x",
        "x --https://${LONG}@index.example.org/x",
    ],
)
def test_no_problem_with_a_line_shows_a_value_of_any_length(tmp_path: Path, line: str) -> None:
    """Messages are cut: a password must be gone before."""
    long = Variables(servers={"LONG": "index.example.org"}, environ={"LONG": "canary" * 60})
    project(tmp_path, {"requirements.txt": f"{line}\n"})
    requirements = read_requirements(tmp_path, repo_root=tmp_path, variables=long)
    assert requirements.problems
    assert "canary" not in repr(requirements)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark_are_read(tmp_path: Path, encoding: str) -> None:
    """PowerShell's `pip freeze > requirements.txt` writes UTF-16."""
    assert texts(read(tmp_path, "requests==2.32.5\r\n".encode(encoding))) == ["requests==2.32.5"]


def test_no_file_means_no_requirements(tmp_path: Path) -> None:
    assert read_requirements(tmp_path, repo_root=tmp_path) == Requirements()


REFUSED = {
    "-e .": "built from source",
    "--editable=./lib": "built from source",
    "-e git+https://example.org/x.git#egg=x": "built from source",
    "git+https://example.org/x.git": "built from source",
    "x @ git+https://example.org/x.git@main": "built from source",
    "git+file:///srv/x": "only git over https",
    "x @ git+ssh://git@example.org/x.git": "repository's source",
    "hg+https://example.org/x": "repository's source",
    "./lib": "local path",
    "../lib": "local path",
    "/lib": "local path",
    "wheels/x-1.0-py3-none-any.whl": "local path",
    "file:///etc/passwd": "outside the repository",
    "file://elsewhere/x.whl": "another machine",
    "ftp://example.org/x.whl": "no way to fetch",
    "~/lib": "local path",
    "nothing.tar.gz": "local path",
    "https://example.org/x.tgz": "an address",
    "x @ https://example.org/x-1.0.tar.gz": "built from source",
    "x @ https://example.org/": "neither a wheel nor an archive",
    "x @ https://example.org/x.tar.gz#subdirectory=../..": "leads out of it",
    "x @ file:///etc/passwd": "outside the repository",
    "chalice @ https://example.org/chalice-1.0-py3-none-any.whl": "only its releases",
    "--no-binary :all:": "build from source",
    "--no-binary=evil": "build from source",
    "x --global-option=build": "only when it is built",
    "x --config-settings=a=b": "only when it is built",
    "x --hash=md5:00": "hash",
    "--find-links ./wheels": "cannot be read",
    "--find-links ../": "outside the repository",
    "-f": "no folder of the project",
    "-f http://example.org/": "https",
    "--trusted-host example.org": "certificate",
    "--index-url http://example.org/simple": "https",
    "--index-url file:///srv/simple": "https",
    "--index-url": "https",
    "--index-url https://[broken": "https",
    "-i https://elsewhere.example/${AWS_SECRET_ACCESS_KEY}/simple": "anywhere else",
    "-i https://x:${AWS_SECRET_ACCESS_KEY}@elsewhere.example/simple": "may not be used",
    "x==${VERSION}": "anywhere else",
    "-r ${HOME}/x.txt": "anywhere else",
    "-r /proc/self/environ": "outside the repository",
    "-r ../outside.txt": "outside the repository",
    "-r https://example.org/r.txt": "not a file of the repository",
    "-r missing.txt": "cannot be read",
    "-r .": "not a text file",
    "-r .git/config": "belongs to git",
    "-r": "not a file of the repository",
    "--unheard-of": "not known",
    "-z": "not known",
    "this is not a requirement": "not a requirement",
    "x==": "not a requirement",
    "x = 1.0": "not a requirement",
    '-r "unclosed': "quotes",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_line_that_cannot_be_packaged_says_where_why_and_what_to_do(
    tmp_path: Path, line: str
) -> None:
    app_dir = tmp_path / "app"
    (tmp_path / "outside.txt").write_text("six\n")
    canary = tmp_path / "canary"
    setup = f"import pathlib; pathlib.Path({str(canary)!r}).write_text('ran')\n"
    requirements = read(
        app_dir,
        f"six\n{line}\n",
        **{".git__config": "[core]\n", "setup.py": setup, "lib__setup.py": setup},
    )
    (problem,) = requirements.problems
    assert (problem.at and problem.at.file, problem.at and problem.at.line) == (
        "requirements.txt",
        2,
    ) or line == "-r ."
    assert REFUSED[line] in problem.what
    assert problem.fix
    with pytest.raises(PackageError) as caught:
        build(app_dir, out_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
    assert "requirements.txt" in str(caught.value) or line == "-r ."
    assert not canary.exists()


@pytest.mark.parametrize(
    "line",
    [
        "chalice @ git+https://example.org/chalice.git",
        "chalice[cdk] @ https://example.org/chalice.whl",
        "-e git+https://example.org/x.git@main#egg=chalice",
        "git+https://example.org/x.git#subdirectory=a&egg=chalice",
    ],
)
def test_a_problem_names_the_package_that_it_is_about(tmp_path: Path, line: str) -> None:
    (problem,) = read(tmp_path, f"{line}\n").problems
    assert problem.subject == "chalice"


def test_a_password_in_a_line_is_not_shown(tmp_path: Path) -> None:
    line = "git+https://reader:canary-4711@example.org/x.git"
    (problem,) = read(tmp_path, f"{line}\n").problems
    assert "canary-4711" not in f"{problem}"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    requirements = read(tmp_path, "-e .\nsix\n--no-binary x\nbroken==\n")
    assert [p.at and p.at.line for p in requirements.problems] == [1, 3, 4]
    with pytest.raises(PackageError) as caught:
        requirements.check()
    assert all(f"requirements.txt:{line}" in str(caught.value) for line in (1, 3, 4))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "requirements.txt")
    (problem,) = read_requirements(tmp_path, repo_root=tmp_path).problems
    assert "not a text file" in problem.what


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\xfa", b"\xc3\x28\n", b"six\0\n", b"#" * (1024 * 1024 + 1)], ids=range(4)
)
def test_what_is_not_text_is_a_problem(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data).problems


def test_includes_are_bounded(tmp_path: Path) -> None:
    for number in range(80):
        (tmp_path / f"r{number}.txt").write_text(f"-r r{number + 1}.txt\n")
    requirements = read(tmp_path, "-r r0.txt\n")
    assert len(requirements.files) <= 50
    assert "files are included" in requirements.problems[0].what


def test_problems_are_bounded(tmp_path: Path) -> None:
    assert len(read(tmp_path, "-e .\n" * 5000).problems) <= 50


def test_a_link_to_a_file_outside_is_not_read(tmp_path: Path) -> None:
    app_dir = tmp_path / "app"
    app_dir.mkdir()
    (tmp_path / "secret").write_text("canary==1\n")
    (app_dir / "requirements.txt").symlink_to("../secret")
    requirements = read_requirements(app_dir, repo_root=app_dir)
    assert requirements.entries == ()
    assert "outside the repository" in requirements.problems[0].what


PIECES = st.sampled_from(
    [
        *("six", "==1.0", "-r ", "-e ", "--hash=", "sha256:", "\\\n", "\n", "#", "'", '"', " "),
        *(";", "@", "${X}", "https://", "[", "]", "../", "\t", "\r", "\x0c", "\u2028", "é", "-"),
        *("--index-url ", "git+", "#egg=", "\0"),
    ]
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pieces=st.lists(PIECES, max_size=30) | st.lists(st.characters(), max_size=60))
def test_any_text_is_read_without_an_error(tmp_path: Path, pieces: list[str]) -> None:
    data = "".join(pieces).encode("utf-8", "surrogatepass")
    requirements = read(tmp_path, data)
    for problem in requirements.problems:
        assert problem.fix
        assert "\n" not in problem.what
    for entry in requirements.entries:
        assert "\n" not in entry.text
        assert not entry.text.startswith("-")


def test_a_byte_order_mark_alone_is_an_empty_file(tmp_path: Path) -> None:
    assert texts(read(tmp_path, codecs.BOM_UTF8)) == []
