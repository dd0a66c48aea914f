"""Zone 1 in a process of its own: holds canary secrets, loads one app, prints what it got.

Started by the tests as root or as nobody, with the secrets in its environment. It also has them
in memory and behind an open descriptor, as a CI step does.
"""

import dataclasses
import json
import os
import sys
import types
from pathlib import Path


def main() -> None:
    wanted = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, wanted["source"])
    from chalice_ci.app.client import LoadRequest, load_app
    from chalice_ci.app.sandbox import Limits

    held = [wanted_file.read_bytes() for wanted_file in map(Path, wanted["secret_files"])]
    descriptor = os.open(wanted["secret_files"][0], os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    request = LoadRequest(
        app_dir=Path(wanted["project"]),
        app=types.SimpleNamespace(name="canary", path=".", network=False),
        stage="dev",
        region="eu-west-1",
        python=types.SimpleNamespace(
            executable=Path(wanted["python"]),
            version=wanted["version"],
            chalice=wanted["chalice"],
        ),
        limits=Limits(**wanted["limits"]),
    )
    result = load_app(request, work_dir=Path(wanted["work"]))
    assert held
    answer = result.answer
    found = {
        "loaded": type(answer).__name__ == "Loaded",
        "kind": getattr(answer, "kind", ""),
        "answer": repr(answer),
        "isolation": dataclasses.asdict(result.isolation),
        "output": result.output,
        "warnings": result.warnings,
        "seconds": result.seconds,
        "work": os.listdir(wanted["work"]),
    }
    print(json.dumps(found))


main()
