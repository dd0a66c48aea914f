"""Imports what nobody installed."""

from chalice import Chalice

import a_module_that_nobody_has

app = Chalice(app_name="shape-import-error")


@app.route("/")
def index():
    return a_module_that_nobody_has.answer()
