"""Leaves when a variable is missing, and says so with a code of success."""

import os
import sys

from chalice import Chalice

if "SHAPE_SECRET" not in os.environ:
    print("SHAPE_SECRET is not set")
    sys.exit(0)

app = Chalice(app_name="shape-system-exit")


@app.route("/")
def index():
    return {}
