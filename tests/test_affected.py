"""Which apps a change is about."""

from __future__ import annotations

import pytest

from chalice_ci.affected import what_affects
from chalice_ci.config import AppConfig

ORDERS = AppConfig(name="orders", path="services/orders")


def affects(app: AppConfig, *files: str, config: str | None = "chalice-ci.yml") -> str:
    return what_affects(app, files, config=config)


@pytest.mark.parametrize(
    ("paths", "files", "told"),
    [
        ((), ("services/orders/app.py",), "services/orders/app.py"),
        ((), ("services/orders/.chalice/config.json",), "services/orders/.chalice/config.json"),
        ((), ("services/orders2/app.py", "services/app.py", "README.md"), ""),
        ((), ("other/services/orders/app.py",), ""),
        ((), (), ""),
        ((), ("z", "services/orders/b", "services/orders/a"), "services/orders/a"),
        # What everything is built with.
        ((), ("chalice-ci.yml",), "chalice-ci.yml"),
        ((), (".python-version",), ".python-version"),
        ((), ("services/users/.python-version",), ""),
        # What is declared, as .gitignore reads it.
        (("libs/common/**",), ("libs/common/x/y.py",), "libs/common/x/y.py"),
        (("libs/common/",), ("libs/common/y.py",), "libs/common/y.py"),
        (("libs/common",), ("libs/other/y.py",), ""),
        (("constraints*.txt",), ("constraints-2.txt",), "constraints-2.txt"),
        (("/constraints.txt",), ("docs/constraints.txt",), ""),
        # What is taken out, the last word counts.
        (("!**/*.md",), ("services/orders/README.md",), ""),
        (("!services/orders/docs/**",), ("services/orders/docs/a/b.py",), ""),
        (
            ("!**/*.md", "**/LICENSE.md"),
            ("services/orders/LICENSE.md",),
            "services/orders/LICENSE.md",
        ),
    ],
)
def test_an_app_is_made_of_its_folder_and_of_what_its_paths_say(
    paths: tuple[str, ...], files: tuple[str, ...], told: str
) -> None:
    app = AppConfig(name="orders", path="services/orders", paths=paths)
    assert affects(app, *files) == told


@pytest.mark.parametrize("file", ["app.py", "docs/x.md", ".chalice/config.json", "a/b/c"])
def test_an_app_at_the_root_is_made_of_everything(file: str) -> None:
    assert affects(AppConfig(name="app", path="."), file) == file


@pytest.mark.parametrize("path", ["my app", "a[b]", "wh*t", "#app", "!app", "back\\slash", "a?"])
def test_the_name_of_a_folder_is_no_pattern(path: str) -> None:
    app = AppConfig(name="app", path=path)
    assert affects(app, f"{path}/app.py") == f"{path}/app.py"
    assert affects(app, "other/app.py", "a/app.py", "ab/app.py", "what/app.py") == ""


def test_a_configuration_of_another_name_counts_as_well() -> None:
    assert affects(ORDERS, "ci/chalice.yml", config="ci/chalice.yml") == "ci/chalice.yml"
    assert affects(ORDERS, "ci/chalice.yml", config=None) == ""
