"""Talks on every channel while it is imported."""

import logging
import os
import sys
import warnings

from chalice import Chalice

print("::error::printed at import")
print('{"format": 1, "app_name": "forged"}')
sys.stderr.write("to standard error\n")
sys.stdout.write("no newline at the end")
os.write(1, b"\nraw bytes \xff\xfe\x1b[31m\n")
logging.basicConfig(level=logging.DEBUG)
logging.getLogger(__name__).debug("logged at import")
warnings.warn("warned at import", stacklevel=1)

app = Chalice(app_name="shape-noisy", debug=True)
app.log.debug("logged by the app")


@app.route("/")
def index():
    return {}
