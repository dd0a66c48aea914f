"""A websocket API, opted in, beside a route."""

from boto3.session import Session
from chalice import Chalice

app = Chalice(app_name="shape-websockets")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = Session()


@app.route("/")
def index():
    return {}


@app.on_ws_connect()
def connect(event):
    pass


@app.on_ws_message()
def message(event):
    app.websocket_api.send(event.connection_id, event.body)


@app.on_ws_disconnect()
def disconnect(event):
    pass
