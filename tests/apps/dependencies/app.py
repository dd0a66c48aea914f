"""One dependency of pure Python and one with compiled code."""

import markupsafe
import six

from chalice import Chalice

app = Chalice(app_name="shape-dependencies")


@app.route("/")
def index():
    return {"escaped": str(markupsafe.escape("<b>")), "six": six.__version__}
