"""One domain for the routes, another one for the websockets."""

from chalice import Chalice

app = Chalice(app_name="shape-domain")
app.experimental_feature_flags.update(["WEBSOCKETS"])


@app.route("/")
def index():
    return {}


@app.on_ws_message()
def message(event):
    return event.body
