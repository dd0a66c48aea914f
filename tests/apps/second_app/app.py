"""Makes a second Chalice object, whose websockets are never deployed."""

from chalice import Chalice

app = Chalice(app_name="shape-second-app")


@app.route("/")
def index():
    return {}


def for_local_trials():
    other = Chalice(app_name="shape-trial")

    @other.on_ws_message()
    def message(event):
        return event.body

    return other


for_local_trials()
