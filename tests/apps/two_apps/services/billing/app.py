from chalice import Chalice

from chalicelib.money import total

app = Chalice(app_name="shape-billing")


@app.lambda_function()
def bill(event, context):
    return total(event)


@app.schedule("rate(1 day)")
def remind(event):
    return {}
