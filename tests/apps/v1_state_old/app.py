"""Was deployed by a Chalice before 1.2; its state is one file for all stages."""

from chalice import AuthResponse, Chalice

app = Chalice(app_name="shape-v1-state-old")


@app.authorizer()
def gate(request):
    return AuthResponse(routes=["*"], principal_id="user")


@app.route("/", authorizer=gate)
def index():
    return {}
