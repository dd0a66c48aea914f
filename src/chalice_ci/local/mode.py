"""How much like AWS the embedded AWS behaves: delays, throttling and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from chalice_ci.errors import UsageError

PREFIX = "CHALICE_CI_LOCAL_"


@dataclass(frozen=True, kw_only=True)
class LocalMode:
    """Settings of the AWS-like mode; the default is moto's lenient, instant self.

    `pend` seconds for which a new function is Pending, `upd` seconds for which an update is
    InProgress and others are refused, `role` seconds after which a new role can be assumed, `lat`
    seconds added to each call, `throttle` the share (0 to 1) of calls that is refused as too many
    (`seed` decides which: the same calls meet the same refusals in every run), `rate` the calls
    per second and service above which calls are refused (0: no bound), `session` the seconds after
    which an assumed role's credentials are refused (0: when they say), `strict` whether duplicates
    and packages above Lambda's limits are refused, `iam` whether users and assumed roles may do
    only what their policies allow.
    """

    pend: float = 0.0
    upd: float = 0.0
    role: float = 0.0
    lat: float = 0.0
    throttle: float = 0.0
    seed: float = 0.0
    rate: float = 0.0
    session: float = 0.0
    strict: bool = False
    iam: bool = False

    def __post_init__(self) -> None:
        for name in ("pend", "upd", "role", "lat", "rate", "session"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name.upper()} is {getattr(self, name)}, it can't be negative")
        if not 0 <= self.throttle < 1:
            raise UsageError(f"THROTTLE is {self.throttle}, it must be from 0 to below 1")

    @classmethod
    def aws_like(cls) -> LocalMode:
        """Delays of the size that people see on AWS; assumptions, not measurements of AWS."""
        return cls(pend=1.0, upd=1.0, role=8.0, lat=0.05, strict=True)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> LocalMode:
        """Read `CHALICE_CI_LOCAL_PEND`, `..._UPD`, `..._ROLE`, `..._LAT` and so on."""
        values: dict[str, float | bool] = {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            text = environ.get(name, "")
            if not text:
                continue
            try:
                number = float(text)
            except ValueError:
                raise UsageError(
                    f"{text!r} is not a number", where=name, fix="Give seconds, as in 1.5."
                ) from None
            values[field.name] = bool(number) if isinstance(field.default, bool) else number
        return cls(**values)  # type: ignore[arg-type]  # the loop keeps each field's type

    def arguments(self) -> list[str]:
        """The options of `python -m chalice_ci.local` for this mode."""
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is True:
                found.append(f"--{field.name}")
            elif value:
                found.append(f"--{field.name}={value}")
        return found
