"""AWS-like behaviour inside moto: states that take time, roles that spread, duplicates refused.

moto answers at once and takes everything, so Chalice's waiters and retries would never run.
What is slow here is a function's own clock: nothing sleeps, an answer depends on the time.
"""

from __future__ import annotations

import base64
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

from moto.awslambda.exceptions import InvalidParameterValueException, LambdaClientError
from moto.awslambda.models import LambdaBackend, LambdaFunction
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.models import IAMBackend, iam_backends

from chalice_ci.local.gaps.gap import Around, Method
from chalice_ci.local.mode import LocalMode

UNZIPPED_LIMIT = 262_144_000

# Where a function and a role keep when they were made or changed.
_ACTIVE_AT = "chalice_ci_active_at"
_UPDATED_AT = "chalice_ci_updated_at"
_USABLE_AT = "chalice_ci_usable_at"


class ResourceConflict(LambdaClientError):
    """AWS refuses because the resource exists or is being changed."""

    code = 409

    def __init__(self, message: str) -> None:
        super().__init__("ResourceConflictException", message)


def install(mode: LocalMode, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Make moto behave as `mode` says; latency, throttling and request sizes are the front's."""
    for patch in _AwsLike(mode, clock).patches():
        patch.apply()


class _AwsLike:
    def __init__(self, mode: LocalMode, clock: Callable[[], float]) -> None:
        self._mode = mode
        self._clock = clock

    def patches(self) -> list[Around]:
        """What to wrap; nothing for what the mode leaves as it is."""
        wrapped: list[tuple[type, str, Method]] = []
        if self._mode.pend or self._mode.upd:
            wrapped += [
                (LambdaFunction, "get_configuration", self._configuration),
                (LambdaBackend, "update_function_code", self._update),
                (LambdaBackend, "update_function_configuration", self._update),
                (LambdaBackend, "invoke", self._invoke),
            ]
        if self._mode.role:
            wrapped += [
                (IAMBackend, "create_role", self._create_role),
                (LambdaBackend, "update_function_configuration", self._new_role),
            ]
        if self._mode.strict:
            wrapped.append((LambdaBackend, "create_event_source_mapping", self._map_once))
            wrapped.append((LambdaBackend, "update_function_code", self._check_size))
        wrapped.append((LambdaBackend, "create_function", self._create_function))
        return [Around(owner=owner, name=name, wrapper=wrap) for owner, name, wrap in wrapped]

    # -- functions ---------------------------------------------------------------------------

    def _create_function(self, moto: Method, backend: LambdaBackend, spec: dict[str, Any]) -> Any:
        if self._mode.role or self._mode.strict:
            self._assume(str(spec.get("Role", "")))
        function = moto(backend, spec)
        if self._mode.strict:
            try:
                _check_unzipped(function.code_bytes)
            except InvalidParameterValueException:
                backend.delete_function(function.function_name)
                raise
        setattr(function, _ACTIVE_AT, self._clock() + self._mode.pend)
        return function

    def _configuration(
        self, moto: Method, function: LambdaFunction, *args: Any, **rest: Any
    ) -> Any:
        configuration = moto(function, *args, **rest)
        now = self._clock()
        if now < vars(function).get(_ACTIVE_AT, 0.0):
            configuration["State"] = "Pending"
            configuration["StateReasonCode"] = "Creating"
            configuration["StateReason"] = "The function is being created."
        if now < vars(function).get(_UPDATED_AT, 0.0):
            configuration["LastUpdateStatus"] = "InProgress"
            configuration["LastUpdateStatusReasonCode"] = "Creating"
            configuration["LastUpdateStatusReason"] = "The function is being created."
        return configuration

    def _update(
        self, moto: Method, backend: LambdaBackend, function_name: str, *args: Any, **rest: Any
    ) -> Any:
        function: Any = backend.get_function(function_name)
        self._refuse_pending(function)
        if self._clock() < vars(function).get(_UPDATED_AT, 0.0):
            raise ResourceConflict(
                "The operation cannot be performed at this time."
                f" An update is in progress for resource: {function.function_arn}"
            )
        moto(backend, function_name, *args, **rest)
        setattr(function, _UPDATED_AT, self._clock() + self._mode.upd)
        return function.get_configuration()

    def _invoke(
        self, moto: Method, backend: LambdaBackend, function_name: str, *args: Any, **rest: Any
    ) -> Any:
        self._refuse_pending(backend.get_function(function_name))
        return moto(backend, function_name, *args, **rest)

    def _refuse_pending(self, function: LambdaFunction) -> None:
        if self._clock() < vars(function).get(_ACTIVE_AT, 0.0):
            raise ResourceConflict(
                "The operation cannot be performed at this time."
                " The function is currently in the following state: Pending"
            )

    def _check_size(
        self, moto: Method, backend: LambdaBackend, function_name: str, *args: Any, **rest: Any
    ) -> Any:
        body = rest.get("body") or args[-1]
        if isinstance(body, dict) and "ZipFile" in body:
            _check_unzipped(base64.b64decode(body["ZipFile"]))
        return moto(backend, function_name, *args, **rest)

    # -- roles -------------------------------------------------------------------------------

    def _create_role(self, moto: Method, backend: IAMBackend, *args: Any, **rest: Any) -> Any:
        role = moto(backend, *args, **rest)
        setattr(role, _USABLE_AT, self._clock() + self._mode.role)
        return role

    def _new_role(
        self,
        moto: Method,
        backend: LambdaBackend,
        function_name: str,
        qualifier: Any,
        body: dict[str, Any],
    ) -> Any:
        if "Role" in body:
            self._assume(str(body["Role"]))
        return moto(backend, function_name, qualifier, body=body)

    def _assume(self, arn: str) -> None:
        """Refuse a role that is not there, or not yet everywhere."""
        roles = iam_backends[DEFAULT_ACCOUNT_ID]["aws"].roles.values()
        role = next((role for role in roles if role.arn == arn), None)
        if role is None or self._clock() < vars(role).get(_USABLE_AT, 0.0):
            raise InvalidParameterValueException(
                "The role defined for the function cannot be assumed by Lambda."
            )

    # -- event source mappings ---------------------------------------------------------------

    def _map_once(self, moto: Method, backend: LambdaBackend, spec: dict[str, Any]) -> Any:
        name = str(spec.get("FunctionName", ""))
        source = str(spec.get("EventSourceArn", ""))
        for mapping in backend.list_event_source_mappings(source, name):
            raise ResourceConflict(
                f'The event source arn (" {source} ") and function (" {name} ") provided mapping'
                f" already exists. Please update or delete the existing mapping with UUID"
                f" {mapping.uuid}"
            )
        return moto(backend, spec)


def _check_unzipped(content: bytes) -> None:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size >= UNZIPPED_LIMIT:
        raise InvalidParameterValueException(
            f"Unzipped size must be smaller than {UNZIPPED_LIMIT} bytes"
        )
