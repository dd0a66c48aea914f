"""Dependencies in a layer, the app's own code in the function."""

import six

from chalice import Chalice

app = Chalice(app_name="shape-automatic-layer")


@app.route("/")
def index():
    return {"six": six.__version__}


@app.lambda_function()
def worker(event, context):
    return {}
