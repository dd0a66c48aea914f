from chalice import AuthResponse, Blueprint

users = Blueprint(__name__)


@users.authorizer()
def gate(request):
    return AuthResponse(routes=["*"], principal_id="user")


@users.route("/", authorizer=gate)
def list_users():
    return []


@users.route("/{name}", methods=["GET", "DELETE"])
def one_user(name):
    return {"name": name}
