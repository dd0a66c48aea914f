"""The inside of a function's process: started alone, with the standard library only.

It runs under the Python of the function's runtime (3.10 and newer), isolated and without
site-packages. The first line of standard input says what to load; every further line is an
invocation, answered by one line. Standard output is the function's own: what it prints goes to
standard error, and so to the log.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any


class LambdaContext:
    """What a handler gets as its second argument."""

    identity = None
    client_context = None

    def __init__(self, function: dict[str, Any], request_id: str, deadline: float) -> None:
        """Take the function's description, the id of the request and when it ends."""
        self.function_name = function["name"]
        self.function_version = function["version"]
        self.invoked_function_arn = function["arn"]
        self.memory_limit_in_mb = str(function["memory"])
        self.aws_request_id = request_id
        self.log_group_name = "/aws/lambda/" + function["name"]
        self.log_stream_name = function["stream"]
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        """How long the handler may still run."""
        return max(0, int((self._deadline - time.time()) * 1000))


def failure(error: BaseException) -> dict[str, Any]:
    """Describe an exception as Lambda does."""
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def load(function: dict[str, Any]) -> Callable[[Any, LambdaContext], Any]:
    """Import the handler; the package comes first, then layers, the library, and boto3 last."""
    sys.path[:0] = [function["root"], *function["layers"]]
    sys.path.extend(function["runtime_paths"])
    os.chdir(function["root"])
    module, _, name = function["handler"].rpartition(".")
    handler: Callable[[Any, LambdaContext], Any] = getattr(
        importlib.import_module(module.replace("/", ".")), name
    )
    return handler


def end_with_parent(parent: int) -> None:
    """End when the parent does, even while a handler runs."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Serve invocations until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    function = json.loads(requests.readline())
    try:
        handler = load(function)
    # A handler's module may do anything while it is imported, exit included.
    except BaseException as error:
        answers.write(json.dumps({"init": failure(error)}) + "\n")
        answers.flush()
        return
    answers.write(json.dumps({"init": None}) + "\n")
    answers.flush()
    for line in requests:
        asked = json.loads(line)
        context = LambdaContext(function, asked["request_id"], asked["deadline"])
        try:
            result = {"result": json.loads(json.dumps(handler(asked["event"], context)))}
        except Exception as error:
            traceback.print_exc()
            result = {"error": failure(error)}
        sys.stdout.flush()
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
