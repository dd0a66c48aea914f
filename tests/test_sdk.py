"""A client of the API that is not what it should be is told, and takes no place."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.errors import AWSError, UsageError
from chalice_ci.sdk import api_of, download_sdk
from chalice_ci.state.schema import StageState

API = ("abc123", "api", "eu-west-1")


class Gateway:
    """API Gateway that sends these bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __call__(self, service: str) -> Gateway:
        assert service == "apigateway"
        return self

    def get_sdk(self, **asked: str) -> Mapping[str, Any]:
        assert asked == {"restApiId": "abc123", "stageName": "api", "sdkType": "javascript"}
        return {"body": io.BytesIO(self.content)}


def packed(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return content.getvalue()


def test_a_client_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for names in (("x/a.js", "x/b.js"), ("y/c.js",)):
        found = download_sdk(Gateway(packed(*names)), API, tmp_path, where="orders/dev")
        assert sorted(path.name for path in found.iterdir()) == sorted(
            name.partition("/")[2] for name in names
        )
    assert [path.name for path in tmp_path.iterdir()] == ["sdk"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<html>", "not a zip file"),
        (packed("x/a.js")[:-40], "not a zip file"),
        (packed(), "not one folder"),
        (packed("a.js"), "not one folder"),
        (packed("x/a.js", "y/a.js"), "not one folder"),
    ],
    # A zip holds the time at which it was made, and workers have to agree on the names of tests.
    ids=("html", "cut", "empty", "no folder", "two folders"),
)
def test_what_is_no_client_leaves_the_one_before(content: bytes, told: str, tmp_path: Path) -> None:
    download_sdk(Gateway(packed("x/a.js")), API, tmp_path, where="orders/dev")
    with pytest.raises(AWSError, match=told):
        download_sdk(Gateway(content), API, tmp_path, where="orders/dev")
    assert [path.name for path in tmp_path.rglob("*")] == ["sdk", "a.js"]


def test_nothing_is_written_beside_the_folder(tmp_path: Path) -> None:
    content = packed("x/a.js", "x/../../../out.js", "/x/b.js")
    download_sdk(Gateway(content), API, tmp_path / "deep/er", where="orders/dev")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.js")} <= {
        "deep/er/sdk/a.js",
        "deep/er/sdk/b.js",
        "deep/er/sdk/out.js",
    }


def test_what_is_not_recorded_can_not_be_asked_for() -> None:
    with pytest.raises(UsageError, match="no REST API is recorded"):
        api_of(StageState(), where="orders/dev")
    api = {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": "abc123"}
    with pytest.raises(UsageError, match="does not tell the API's address"):
        api_of(StageState(resources=(api,)), where="orders/dev")
    address = "https://abc123.execute-api.eu-west-1.amazonaws.com/api/"
    known = StageState(resources=({**api, "rest_api_url": address},))
    assert api_of(known, where="orders/dev") == API
