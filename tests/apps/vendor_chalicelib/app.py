"""Code of one's own in chalicelib/, code of others in vendor/, data beside both."""

import single_file
from carried.greeting import greet

from chalice import Chalice
from chalicelib.deep.down import depth
from chalicelib.texts import motto

app = Chalice(app_name="shape-vendor")


@app.route("/")
def index():
    return {"greeting": greet("you"), "motto": motto(), "depth": depth(), "single": single_file.NAME}
