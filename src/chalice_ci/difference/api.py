"""What changed for those who call: APIs, domains, routes, authorizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chalice_ci.difference.changes import Area, Change, Detail, Kind, Risk, Risky
from chalice_ci.difference.delta import Delta
from chalice_ci.difference.details import differing
from chalice_ci.difference.permissions import compare_policies, policy_details
from chalice_ci.snapshot import Api, Authorizer, Cors, Domain, Route

_APIS = {"rest": "REST API", "websocket": "WebSocket API"}
_ANY_METHOD = "x-amazon-apigateway-any-method"


def api_changes(delta: Delta) -> Iterator[Change]:
    """APIs, their domains, their routes and who checks the callers."""
    yield from _apis(delta)
    yield from _domains(delta)
    yield from _routes(delta)
    yield from _authorizers(delta)


# -- APIs -----------------------------------------------------------------------------------------


def _apis(delta: Delta) -> Iterator[Change]:
    section = delta.section("apis")
    for api in section.added:
        details = differing((("endpoint", None, api.endpoint), ("stage", None, api.stage)))
        yield Change(
            area=Area.API, kind=Kind.ADDED, subject=_APIS[api.kind], details=tuple(details)
        )
        yield from _websocket_routes(None, api)
    for api in section.removed:
        why = f"The {_APIS[api.kind]} is deleted and its address with it; a new one gets another."
        yield Change(
            area=Area.API, kind=Kind.REMOVED, subject=_APIS[api.kind], risks=(_destructive(why),)
        )
        yield from _websocket_routes(api, None)
    for before, after in section.changed:
        yield from _api(before, after)
        yield from _websocket_routes(before, after)


def _api(before: Api, after: Api) -> Iterator[Change]:
    compared = compare_policies(before.policy, after.policy)
    details = (
        *differing(
            (
                ("name", before.name, after.name),
                ("stage", before.stage, after.stage),
                ("endpoint", before.endpoint, after.endpoint),
                ("VPC endpoints", before.vpc_endpoints, after.vpc_endpoints),
                ("minimum compression", before.minimum_compression, after.minimum_compression),
                ("X-Ray", before.xray, after.xray),
                ("binary types", before.binary_types, after.binary_types),
                ("resource policy", before.policy_digest[:12], after.policy_digest[:12]),
            )
        ),
        *policy_details(before.policy, after.policy),
    )
    if not details:
        return
    risks = []
    if before.endpoint != after.endpoint:
        why = (
            f"The endpoint type goes from {before.endpoint or 'none'} to "
            f"{after.endpoint or 'none'}: who reaches the address, and its DNS name, change."
        )
        risks.append(_destructive(why))
    if before.stage != after.stage:
        why = f"The address ends in /{after.stage} and no longer in /{before.stage}."
        risks.append(_destructive(why))
    if before.policy_digest and not after.policy_digest:
        why = "The resource policy is gone: whoever reaches the address may call it."
        risks.append(Risky(risk=Risk.WEAKENED, why=why))
    elif before.policy_digest and compared.widened:
        why = "The resource policy lets more callers in."
        risks.append(Risky(risk=Risk.WEAKENED, why=why))
    yield Change(
        area=Area.API,
        kind=Kind.CHANGED,
        subject=_APIS[after.kind],
        details=details,
        risks=tuple(risks),
    )


def _websocket_routes(before: Api | None, after: Api | None) -> Iterator[Change]:
    had, has = _handlers(before), _handlers(after)
    for route in sorted({*had, *has}):
        if had.get(route) == has.get(route):
            continue
        kind = Kind.ADDED if route not in had else Kind.REMOVED if route not in has else None
        yield Change(
            area=Area.ROUTE,
            kind=kind or Kind.CHANGED,
            subject=f"WebSocket {route}",
            function=has.get(route) or had.get(route, ""),
            details=tuple(differing((("function", had.get(route), has.get(route)),))),
        )


def _handlers(api: Api | None) -> Mapping[str, str]:
    return dict(api.routes) if api is not None else {}


def _destructive(why: str) -> Risky:
    return Risky(risk=Risk.DESTRUCTIVE, why=why)


# -- domains --------------------------------------------------------------------------------------


def _domains(delta: Delta) -> Iterator[Change]:
    section = delta.section("domains")
    for domain in section.added:
        yield Change(
            area=Area.DOMAIN,
            kind=Kind.ADDED,
            subject=domain.domain,
            details=tuple(differing(_settings(None, domain))),
        )
    for domain in section.removed:
        why = f"The domain {domain.domain} is deleted: nothing answers there any more."
        yield Change(
            area=Area.DOMAIN,
            kind=Kind.REMOVED,
            subject=domain.domain,
            risks=(_destructive(why),),
        )
    for before, after in section.changed:
        risks = []
        if before.domain != after.domain:
            why = f"The domain {before.domain} is deleted and {after.domain} made in its place."
            risks.append(_destructive(why))
        elif before.mount != after.mount:
            why = f"The API moves from /{before.mount} to /{after.mount} of {after.domain}."
            risks.append(_destructive(why))
        if after.tls < before.tls:
            why = "An older TLS version is accepted."
            risks.append(Risky(risk=Risk.WEAKENED, why=why))
        yield Change(
            area=Area.DOMAIN,
            kind=Kind.CHANGED,
            subject=after.domain,
            details=tuple(differing(_settings(before, after))),
            risks=tuple(risks),
        )


def _settings(before: Domain | None, after: Domain) -> Iterator[tuple[str, object, object]]:
    names = {"domain": "domain", "certificate": "certificate", "tls": "TLS", "mount": "base path"}
    names |= {"stage": "stage", "tags": "tags"}
    for name, label in names.items():
        if before is None and name == "domain":
            continue
        yield label, None if before is None else getattr(before, name), getattr(after, name)


# -- routes ---------------------------------------------------------------------------------------


def subject(route: Route) -> str:
    """A route as people write it."""
    method = "ANY" if route.method == _ANY_METHOD else route.method.upper()
    return f"{method} {route.path}"


def _routes(delta: Delta) -> Iterator[Change]:
    section = delta.section("routes")
    for route in section.added:
        yield Change(
            area=Area.ROUTE,
            kind=Kind.ADDED,
            subject=subject(route),
            function=route.function,
            details=(
                Detail(name="auth", after=route.auth or "none"),
                *differing((*_beside_auth(None, route),)),
            ),
        )
    for route in section.removed:
        yield Change(
            area=Area.ROUTE, kind=Kind.REMOVED, subject=subject(route), function=route.function
        )
    for before, after in section.changed:
        details = (
            *differing((("function", before.function, after.function),)),
            *differing((("auth", before.auth or "none", after.auth or "none"),)),
            *differing(_beside_auth(before, after)),
            *differing((("content types", before.content_types, after.content_types),)),
        )
        if details:
            yield Change(
                area=Area.ROUTE,
                kind=Kind.CHANGED,
                subject=subject(after),
                function=after.function,
                details=details,
                risks=tuple(Risky(risk=Risk.WEAKENED, why=why) for why in _weakened(before, after)),
            )


def _beside_auth(before: Route | None, after: Route) -> Iterator[tuple[str, object, object]]:
    yield "scopes", None if before is None else before.scopes, after.scopes
    yield "API key", None if before is None else _required(before), _required(after)
    old = None if before is None else before.cors
    for label, name in _CORS.items():
        was = None if old is None else getattr(old, name)
        now = None if after.cors is None else getattr(after.cors, name)
        yield label, was, now


_CORS = {
    "CORS origin": "origin",
    "CORS headers": "headers",
    "CORS exposed headers": "expose",
    "CORS max age": "max_age",
    "CORS credentials": "credentials",
}


def _required(route: Route) -> str | None:
    return "required" if route.api_key else None


def _weakened(before: Route, after: Route) -> Iterator[str]:
    lost = sorted(set(before.auth.split("+")) - set(after.auth.split("+")) - {""})
    if lost and not after.auth:
        yield f"Anybody may call it: the authorizer {', '.join(lost)} is gone."
    elif lost and set(after.auth.split("+")) < set(before.auth.split("+")):
        yield f"The authorizer {', '.join(lost)} is gone."
    if before.auth == after.auth and before.scopes:
        more = sorted(set(after.scopes) - set(before.scopes))
        # API Gateway asks for one of the scopes, not for all.
        if not after.scopes:
            yield "No scope is asked for any more: every token is good."
        elif more:
            yield f"A token with {' or '.join(more)} is good as well."
    if before.api_key and not after.api_key:
        yield "No API key is asked for any more."
    yield from _cors_widened(before.cors, after.cors)


def _cors_widened(before: Cors | None, after: Cors | None) -> Iterator[str]:
    if after is None:
        return
    if before is None:
        yield f"Browsers may call it from {_origin(after)}."
        return
    if before.origin not in ("*", after.origin):
        yield f"Browsers may call it from {_origin(after)}."
    headers = _more(before.headers, after.headers)
    if headers:
        yield f"Browsers may send {headers}."
    exposed = _more(before.expose, after.expose)
    if exposed:
        yield f"Browsers may read {exposed}."
    if after.credentials and not before.credentials:
        yield "Browsers may send credentials."


def _origin(cors: Cors) -> str:
    return "any origin" if cors.origin == "*" else cors.origin or "no origin"


def _more(before: str, after: str) -> str:
    """The parts of a comma-separated header that are new, unless all were allowed."""
    old = {part.strip().lower() for part in before.split(",")}
    if "*" in old:
        return ""
    new = (part.strip() for part in after.split(","))
    return ", ".join(part for part in new if part and part.lower() not in old)


# -- authorizers ----------------------------------------------------------------------------------


def _authorizers(delta: Delta) -> Iterator[Change]:
    section = delta.section("authorizers")
    for kind, items in ((Kind.ADDED, section.added), (Kind.REMOVED, section.removed)):
        for one in items:
            about = (("kind", None, one.kind), ("decided by", None, one.providers))
            yield Change(
                area=Area.AUTHORIZER,
                kind=kind,
                subject=one.name,
                details=tuple(differing(about)) if kind is Kind.ADDED else (),
            )
    for before, after in section.changed:
        yield Change(
            area=Area.AUTHORIZER,
            kind=Kind.CHANGED,
            subject=after.name,
            details=tuple(
                differing(
                    (
                        ("kind", before.kind, after.kind),
                        ("read from", before.source, after.source),
                        ("decided by", before.providers, after.providers),
                        ("cached for", _seconds(before), _seconds(after)),
                        ("role", before.role, after.role),
                    )
                )
            ),
            risks=tuple(Risky(risk=Risk.WEAKENED, why=why) for why in _looser(before, after)),
        )


def _seconds(authorizer: Authorizer) -> str | None:
    return None if authorizer.ttl is None else f"{authorizer.ttl} s"


def _looser(before: Authorizer, after: Authorizer) -> Iterator[str]:
    more = sorted(set(after.providers) - set(before.providers))
    if before.kind == after.kind == "cognito" and more:
        yield f"Users of {', '.join(more)} are let in."
