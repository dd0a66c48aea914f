"""For ARM: the package needs other wheels than the machine that loads the app."""

import markupsafe

from chalice import Chalice

app = Chalice(app_name="shape-arm64")


@app.lambda_function()
def escape(event, context):
    return str(markupsafe.escape(event["text"]))
