"""An automatic layer that would hold nothing: Chalice leaves it out."""

from chalice import Chalice

app = Chalice(app_name="shape-automatic-layer-empty")


@app.lambda_function()
def worker(event, context):
    return {}
