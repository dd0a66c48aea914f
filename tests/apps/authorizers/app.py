"""Every kind of authorizer that API Gateway knows."""

from chalice import (
    AuthResponse,
    Chalice,
    CognitoUserPoolAuthorizer,
    CustomAuthorizer,
    IAMAuthorizer,
)

app = Chalice(app_name="shape-authorizers")

iam = IAMAuthorizer()
pool = CognitoUserPoolAuthorizer(
    "users",
    provider_arns=["arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_aBcDeFgHi"],
    scopes=["orders/read"],
)
foreign = CustomAuthorizer(
    "foreign",
    header="X-Token",
    ttl_seconds=30,
    authorizer_uri=(
        "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/"
        "arn:aws:lambda:us-east-1:123456789012:function:gatekeeper/invocations"
    ),
)


@app.authorizer()
def own(request):
    return AuthResponse(routes=["*"], principal_id=request.token)


@app.authorizer(
    name="cached",
    ttl_seconds=120,
    execution_role="arn:aws:iam::123456789012:role/shape-invoke",
    header="X-Session",
)
def session(request):
    return AuthResponse(routes=[], principal_id="nobody")


@app.route("/iam", authorizer=iam)
def by_iam():
    return app.current_request.context


@app.route("/pool", authorizer=pool)
def by_pool():
    return app.current_request.context


@app.route("/pool/write", methods=["POST"], authorizer=pool.with_scopes(["orders/write"]))
def by_pool_scope():
    return app.current_request.context


@app.route("/foreign", authorizer=foreign)
def by_foreign():
    return app.current_request.context


@app.route("/own", authorizer=own, cors=True)
def by_own():
    return app.current_request.context


@app.route("/cached", authorizer=session)
def by_session():
    return app.current_request.context


@app.route("/open")
def everybody():
    return {}
