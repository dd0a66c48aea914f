"""Does not compile."""

from chalice import Chalice

app = Chalice(app_name="shape-syntax-error")


@app.route("/")
def index()
    return {}
