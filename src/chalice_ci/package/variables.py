"""`${NAME}` in requirements, as pip has it: credentials of an address, from the environment.

pip puts any variable anywhere. Whoever can edit the file - a pull request can - could send a secret
to a server of theirs, so here the configuration names each variable with the one server that may
have it, and only an address's user name and password can hold one: those are masked wherever an
address is shown, and no lock or snapshot keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from chalice_ci.package.references import Refused

VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
"""A reference to a variable, in pip's words: upper-case letters, digits and `_`."""

# Strict, so that no two parsers see another server: no backslash, no quote, one `@`, and no comma,
# which separates addresses in uv's environment.
_ADDRESS = re.compile(
    r"(?P<scheme>(?<![\w+.-])(?:git\+)?https?://)(?P<credentials>[^\s/@\\?#,'\"]+)"
    r"@(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?)(?=[/?#\s]|$)"
)
# What may stand before the `@` of an address, without what shells and requirements read.
_VALUE = re.compile(r"[A-Za-z0-9._~!$&()*+=:%-]{1,4000}")


@dataclass(frozen=True, kw_only=True)
class Variables:
    """The variables that requirements may name: each with its server ("host" or "host:port").

    `environ` is where their values come from.
    """

    servers: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def expand(self, line: str) -> str | Refused:
        """The line with its variables replaced, or why one of them cannot be."""
        if VARIABLE.search(line) is None:
            return line
        parts: list[str] = []
        rest = 0
        for address in _ADDRESS.finditer(line):
            credentials = address["credentials"]
            for match in VARIABLE.finditer(credentials):
                refused = self._refused(match.group(1), address["host"])
                if refused is not None:
                    return refused
            values = VARIABLE.sub(lambda match: self.environ[match.group(1)], credentials)
            parts += [line[rest : address.start()], address["scheme"], values, "@", address["host"]]
            rest = address.end()
        # Looked for in what was written: a value may look like a variable.
        left = VARIABLE.search(_ADDRESS.sub("", line))
        if left is not None:
            return Refused(
                f"`${{{left.group(1)[:80]}}}` does not stand for the user name or the password of "
                "an https address: a value anywhere else would be shown and stored.",
                "Write it out, or set the whole address in the environment "
                "(UV_INDEX_URL, UV_EXTRA_INDEX_URL, or PIP_…).",
            )
        return "".join((*parts, line[rest:]))

    def _refused(self, name: str, host: str) -> Refused | None:
        shown = f"`${{{name[:80]}}}`"
        server = self.servers.get(name)
        if server is None:
            return Refused(
                f"{shown} may not be used: whoever edits this file could send a secret to a "
                "server of theirs.",
                f"Name the server that may have it in chalice-ci.yml: "
                f"`package: {{variables: {{{name[:80]}: {host}}}}}`.",
            )
        if server.lower() != host.lower():
            return Refused(
                f"{shown} is for {server}, and this address is at {host[:100]}.",
                "Name that server in `package.variables` of chalice-ci.yml, or mend the address.",
            )
        value = self.environ.get(name, "")
        if not value:
            return Refused(
                f"{shown} is not set in this environment.",
                f"Give it to this step (`env: {{{name[:80]}: …}}`), or take the line out.",
            )
        if _VALUE.fullmatch(value) is None:
            return Refused(
                f"the value of {shown} has characters that an address cannot hold.",
                "Percent-encode it, as pip needs it, too.",
            )
        return None


NO_VARIABLES = Variables()
"""None is allowed."""
