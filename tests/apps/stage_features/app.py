"""What the app is depends on the stage's variables: only prod has websockets."""

import os

from chalice import Chalice

app = Chalice(app_name="shape-stages")


@app.route("/")
def index():
    return {"color": os.environ["COLOR"]}


if os.environ.get("LIVE") == "on":

    @app.on_ws_message()
    def message(event):
        return event.body


if os.environ.get("OPT_IN"):
    app.experimental_feature_flags.update(os.environ["OPT_IN"].split(","))


if os.environ["COLOR"] == "green":

    @app.lambda_function()
    def only_here(event, context):
        return {}
