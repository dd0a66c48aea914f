from chalice import Blueprint

admin = Blueprint(__name__)


@admin.route("/stats", methods=["GET", "PUT"], cors=True)
def stats():
    return {}


@admin.lambda_function()
def purge(event, context):
    return {}
