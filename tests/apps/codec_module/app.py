"""Brings modules that are called like those of the tools that load it."""

import apply
import calls
import codec
import load

from chalice import Chalice

app = Chalice(app_name="shape-codec")


@app.route("/")
def index():
    return {"codec": codec.NAME, "load": load.NAME, "apply": apply.NAME, "calls": calls.NAME}


assert (codec.NAME, load.NAME, apply.NAME, calls.NAME) == ("own codec", "own load", "own apply", "own calls")
