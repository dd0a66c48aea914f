"""Blueprints with prefixes, a trigger, a function and an authorizer."""

from chalice import Chalice

from chalicelib.admin import admin
from chalicelib.jobs import jobs
from chalicelib.users import users

app = Chalice(app_name="shape-blueprints")
app.register_blueprint(users, url_prefix="/users")
app.register_blueprint(admin, name_prefix="admin_", url_prefix="/admin")
app.register_blueprint(jobs)


@app.route("/")
def index():
    return {}
