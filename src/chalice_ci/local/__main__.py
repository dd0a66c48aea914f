"""`python -m chalice_ci.local`: run the embedded AWS until its parent ends or SIGTERM comes."""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from pathlib import Path

from chalice_ci.errors import UsageError
from chalice_ci.local import process
from chalice_ci.local.mode import LocalMode


def main() -> int:
    """Run the command; its exit code."""
    try:
        mode = LocalMode.from_environ(os.environ)
        options = _parser(mode).parse_args()
        mode = LocalMode(**{name: getattr(options, name) for name in vars(mode)})
        return _run(options, mode)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)


def _run(options: argparse.Namespace, mode: LocalMode) -> int:
    try:
        from chalice_ci.local import server as serving
    except ModuleNotFoundError as error:
        from chalice_ci.local.aws import missing_extra

        raise missing_extra(error.name or "moto") from error

    server = serving.Server(
        host=options.host,
        port=options.port,
        mode=mode,
        instance=options.instance or uuid.uuid4().hex,
        without=options.without_gap,
    )
    if options.until_eof:
        serving.end_with_parent(server.stop)
    if options.idle:
        serving.end_when_idle(server.stop, server.idle, options.idle)
    if options.while_exists is not None:
        serving.end_when_gone(server.stop, options.while_exists)
    serving.end_on_signals(server.stop)
    if not options.no_gateway:
        server.start_gateway(*_gateway_options(options))
    ready = json.dumps(
        {
            "endpoint_url": server.endpoint_url,
            "gateway_url": server.gateway_url,
            "pid": os.getpid(),
        }
    )
    if options.ready_file is not None:
        _write_whole(options.ready_file, ready)
    process.announce(ready)
    server.serve()
    return 0


def _gateway_options(options: argparse.Namespace) -> list[str]:
    found = [f"--host={options.host}", *(f"--python={pair}" for pair in options.python)]
    if options.cache_dir is not None:
        found.append(f"--cache-dir={options.cache_dir}")
    return found


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody reads half of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _parser(mode: LocalMode) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chalice_ci.local", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--instance", default="", help="a name that /chalice-ci/health gives back")
    parser.add_argument("--ready-file", type=Path, help="where to write the line of readiness, too")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    parser.add_argument("--idle", type=float, default=0.0, help="end after so many idle seconds")
    parser.add_argument("--while-exists", type=Path, help="end when this file is gone")
    parser.add_argument("--no-gateway", action="store_true", help="serve the AWS only")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="VERSION=PATH",
        help="the interpreter for functions of a runtime, as in 3.12=/usr/bin/python3.12",
    )
    parser.add_argument("--cache-dir", type=Path, help="for a copy of it that others can run")
    parser.add_argument("--without-gap", action="append", default=[], help="for tests")
    for name, value in vars(mode).items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true", default=value)
        else:
            parser.add_argument(f"--{name}", type=float, default=value)
    return parser


if __name__ == "__main__":
    sys.exit(main())
