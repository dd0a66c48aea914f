from chalice import Chalice

app = Chalice(app_name="shape-orders")


@app.route("/orders")
def orders():
    return []
