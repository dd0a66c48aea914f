"""The JavaScript client that API Gateway makes of a deployed REST API: `chalice generate-sdk`.

Asked for is what Chalice asks for, with the id and the stage that are recorded; the app's code has
no part in it.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from chalice_ci.errors import AWSError, UsageError
from chalice_ci.ownership import Clients
from chalice_ci.state.schema import StageState

FOLDER = "sdk"
_KIND = "javascript"
_MAX_BYTES = 64 * 1024 * 1024


def api_of(state: StageState, *, where: str) -> tuple[str, str, str]:
    """The id, the API's stage and the region of the recorded REST API. Raises UsageError."""
    recorded = state.find("rest_api", "rest_api")
    if recorded is None:
        raise UsageError(
            "no REST API is recorded, so there is nothing to make a client of.",
            where=where,
            fix="Leave --sdk out: the app has no routes, or was not deployed yet.",
        )
    address = urlsplit(str(recorded.get("rest_api_url", "")))
    host, stage = (address.hostname or "").split("."), address.path.strip("/")
    if len(host) < 4 or not stage:
        raise UsageError(
            "the record does not tell the API's address.",
            where=where,
            fix="Deploy the stage once: that records it.",
        )
    return str(recorded["rest_api_id"]), stage, host[2]


def download_sdk(clients: Clients, api: tuple[str, str, str], folder: Path, *, where: str) -> Path:
    """Write the client below `folder`, in the place of an older one; the folder that it is in.

    Raises AWSError when AWS refuses or its answer is no archive of one folder.
    """
    identity, stage, _ = api
    try:
        said = clients("apigateway").get_sdk(restApiId=identity, stageName=stage, sdkType=_KIND)
        content = said["body"].read(_MAX_BYTES + 1)
    except (ClientError, BotoCoreError) as error:
        raise AWSError(
            f"API Gateway makes no client of {identity}: {error}",
            where=where,
            fix="Let the role read it: apigateway:GET of the API's stage.",
        ) from error
    target = folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".sdk-") as draft:
        _unpack(content, Path(draft), where)
        (found, *more) = sorted(Path(draft).iterdir()) or [Path(draft)]
        if more or not found.is_dir() or found == Path(draft):
            raise _strange("it is not one folder", where)
        shutil.rmtree(target, ignore_errors=True)
        found.rename(target)
    return target


def _unpack(content: bytes, into: Path, where: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(one.file_size for one in archive.infolist()) > _MAX_BYTES:
                raise _strange("it is larger than 64 MiB", where)
            # It keeps members below the folder, and makes no links.
            archive.extractall(into)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _strange(str(error), where) from error


def _strange(why: str, where: str) -> AWSError:
    return AWSError(
        f"the client that API Gateway sent is not usable: {why}.",
        where=where,
        fix="Try again; `chalice generate-sdk` asks for the same.",
    )
