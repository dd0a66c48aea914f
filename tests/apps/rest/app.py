"""Routes with everything that a route can say."""

from chalice import Chalice, CORSConfig, Response

app = Chalice(app_name="shape-rest")
app.api.binary_types.append("application/x-protobuf")

STRICT = CORSConfig(
    allow_origin="https://shop.example.com",
    allow_headers=["X-Trace"],
    max_age=600,
    expose_headers=["X-Total"],
    allow_credentials=True,
)


@app.route("/")
def index():
    return {"hello": "world"}


@app.route("/items", methods=["GET", "POST"], cors=True)
def items():
    return {"method": app.current_request.method}


@app.route("/items/{item_id}", methods=["GET", "PUT", "PATCH", "DELETE", "HEAD"], cors=STRICT)
def item(item_id):
    return {"item": item_id}


@app.route("/items/{item_id}/parts/{part_id}", name="named_part")
def part(item_id, part_id):
    return {"item": item_id, "part": part_id}


@app.route("/form", methods=["POST"], content_types=["application/x-www-form-urlencoded"])
def form():
    return {"raw": app.current_request.raw_body.decode()}


@app.route("/blob", methods=["POST"], content_types=["application/x-protobuf", "image/png"])
def blob():
    return Response(app.current_request.raw_body, headers={"Content-Type": "image/png"})


@app.route("/secured", api_key_required=True)
def secured():
    return {"secured": True}


@app.route("/any", methods=["ANY"])
def anything():
    return {"any": app.current_request.method}
