"""boto3 clients of an embedded AWS; the models of AWS's services are read once for all tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3

from chalice_ci.local.aws import Endpoint
from support.shapes import REGION, Clients


def clients_of(aws: Endpoint, region: str = REGION) -> Clients:
    """What makes the clients of a region, each of them once."""
    return _clients_at(aws.endpoint_url, region)


@cache
def _clients_at(endpoint_url: str, region: str) -> Clients:
    session = _session()

    @cache
    def client(service: str) -> Any:
        return session.client(service, endpoint_url=endpoint_url, region_name=region)

    return client


@cache
def _session() -> Any:
    # It holds what was read: a session for each AWS would read everything again.
    return boto3.Session("embedded", "embedded", region_name=REGION)
