"""Orders: a small shop's API and a nightly report."""

from chalice import Chalice, NotFoundError, Rate
from chalicelib.catalogue import PRICES, total

app = Chalice(app_name="orders")


@app.route("/")
def index():
    return {"service": "orders", "items": sorted(PRICES)}


@app.route("/orders/{item}", methods=["POST"])
def order(item):
    if item not in PRICES:
        raise NotFoundError(f"no such item: {item}")
    quantity = (app.current_request.json_body or {}).get("quantity", 1)
    return {"item": item, "quantity": quantity, "total": total(item, quantity)}


@app.schedule(Rate(1, unit=Rate.DAYS))
def nightly_report(event):
    return {"items": len(PRICES)}
