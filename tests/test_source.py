"""The source text is read for advice: never imported, bounded, and nothing outside is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalice_ci.findings import Place
from chalice_ci.source import MAX_FILE_BYTES, Source, excerpts, read_source


def source(**files: str) -> Source:
    return Source(files={name.replace("__", "/") + ".py": text for name, text in files.items()})


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("from chalice import Chalice\napp = Chalice(app_name='a')\n", "app", 2),
        ("app = Chalice(\n    app_name='a',\n)\nx = 1\n", "app", 3),
        ("api = Chalice(app_name='a')\n\napp = api\n", "api", 1),
        ("app: Chalice = Chalice('a')\n", "app", 1),
        ("app = None\nif True:\n    app = Chalice('a')\nelse:\n    app = Chalice('b')\n", "app", 5),
        ("app, tracer = make()\n", "app", 1),
        ("try:\n    app = Chalice('a')\nexcept Exception:\n    app = None\n", "app", 4),
        ("def make():\n    app = 1\n\napp = make()\n", "app", 4),
        ("app = app2 = Chalice('a')\n", "app", 1),
    ],
)
def test_the_place_where_the_app_is_made_is_found(text: str, name: str, line: int) -> None:
    binding = source(app=text).binding()
    assert binding is not None
    assert (binding.name, binding.at) == (name, Place(file="app.py", line=line))


def test_the_app_is_followed_through_an_import_from_chalicelib() -> None:
    found = source(
        app="from chalicelib.core import api as app\n",
        chalicelib__core="from .made import api\n",
        chalicelib__made="import chalice\n\napi = chalice.Chalice(app_name='a')\n",
    ).binding()
    assert found is not None
    assert (found.name, str(found.at)) == ("api", "chalicelib/made.py:3")
    assert found.text == "api = chalice.Chalice(app_name='a')"


def test_an_import_that_cannot_be_followed_ends_at_its_own_line() -> None:
    found = source(app="import os\nfrom elsewhere import app\n").binding()
    assert found is not None
    assert (found.name, str(found.at)) == ("app", "app.py:2")


@pytest.mark.parametrize("text", ["x = 1\n", "def f(:\n", "", "app\x00 = 1", "(" * 100_000])
def test_a_text_without_an_app_has_no_binding(text: str) -> None:
    assert source(app=text).binding() is None


def test_a_circle_of_imports_ends() -> None:
    circle = source(app="from chalicelib.a import app\n", chalicelib__a="from app import app\n")
    found = circle.binding()
    assert found is not None
    assert found.at.file in ("app.py", "chalicelib/a.py")


def test_flag_writes_are_found_with_what_they_write() -> None:
    writes = source(
        app=(
            "app.experimental_feature_flags.update(['WEBSOCKETS'])\n"
            "app.experimental_feature_flags.update('WEBSOCKETS')\n"
            "app.experimental_feature_flags = 'WEBSOCKETS_X'\n"
            "app.experimental_feature_flags.add('WEBSOCKETS')\n"
            "app.experimental_feature_flags |= {'A', 'B'}\n"
            "# app.experimental_feature_flags.update(['NO'])\n"
            "print(app.experimental_feature_flags)\n"
        )
    ).flag_writes()
    assert [(w.at.line, w.literal, w.names) for w in writes] == [
        (1, None, ("WEBSOCKETS",)),
        (2, "WEBSOCKETS", ("WEBSOCKETS",)),
        (3, "WEBSOCKETS_X", ("WEBSOCKETS_X",)),
        (4, None, ("WEBSOCKETS",)),
        (5, None, ("A", "B")),
    ]
    assert {w.receiver for w in writes} == {"app"}


def test_comments_strings_and_other_folders_are_no_marks(tmp_path: Path) -> None:
    for folder in ("chalicelib/inner", "vendor", "tests"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "app.py").write_text("# app.on_ws_message()\ntext = 'app.on_ws_message()'\n")
    (tmp_path / "vendor/x.py").write_text("app.on_ws_message()\n")
    (tmp_path / "tests/x.py").write_text("app.on_ws_message()\n")
    (tmp_path / "chalicelib/inner/x.py").write_text("\n@bp.on_ws_message()\ndef f(e): ...\n")
    marks = read_source(tmp_path, ".").marks(("on_ws_message",))
    assert [str(mark.at) for mark in marks] == ["chalicelib/inner/x.py:2"]


def test_paths_are_relative_to_the_repository(tmp_path: Path) -> None:
    (tmp_path / "services/orders/chalicelib").mkdir(parents=True)
    (tmp_path / "services/orders/app.py").write_text("from chalicelib.core import app\n")
    (tmp_path / "services/orders/chalicelib/core.py").write_text("app = Chalice('a')\n")
    found = read_source(tmp_path, "services/orders").binding()
    assert found is not None
    assert str(found.at) == "services/orders/chalicelib/core.py:1"


def test_links_devices_and_huge_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("app = Chalice('secret')\n")
    app = tmp_path / "app"
    (app / "chalicelib").mkdir(parents=True)
    (app / "app.py").symlink_to(secret)
    (app / "chalicelib/link.py").symlink_to("/proc/self/environ")
    os.mkfifo(app / "chalicelib/pipe.py")
    (app / "chalicelib/huge.py").write_text("#" * (MAX_FILE_BYTES + 1))
    (app / "chalicelib/latin.py").write_bytes(b"x = '\xff'\n")
    assert read_source(app, ".").files == {}


def test_an_excerpt_shows_python_and_yaml_of_the_repository_only(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    (root / ".git").mkdir(parents=True)
    (root / ".git/config.yml").write_text("token\n")
    (root / "config.json").write_text('{"PASSWORD": "secret"}\n')
    (root / "app.py").write_text("one\ntwo\n")
    (tmp_path / "outside.py").write_text("secret\n")
    (root / "link.py").symlink_to(tmp_path / "outside.py")
    line = excerpts(root)
    assert line(Place(file="app.py", line=2)) == "two"
    for file in (
        ".git/config.yml",
        "config.json",
        "../outside.py",
        "link.py",
        "a\0.py",
        "/etc/x.py",
    ):
        assert line(Place(file=file, line=1)) is None
    for number in (0, -1, 3, 10**9):
        assert line(Place(file="app.py", line=number)) is None


@given(st.text(), st.text())
def test_no_text_makes_the_reader_fail(app: str, library: str) -> None:
    read = source(app=app, chalicelib__x=library)
    read.binding()
    read.flag_writes()
    read.marks(("on_ws_message",))
    read.constants("x")


def test_deep_nesting_does_not_exhaust_the_reader() -> None:
    deep = "app" + ".x" * 2000 + ".experimental_feature_flags.update('A')\n"
    chain = "if a:\n    app = 1\n" + "elif a:\n    app = 1\n" * 2000
    for text in (deep, chain, "app = " + "-" * 5000 + "1\n", "app = " + "[" * 90 + "]" * 90):
        read = source(app=text)
        read.binding()
        read.flag_writes()
