"""A name prefix renames the blueprint's authorizer, but not what its routes ask for."""

from chalice import Chalice

from chalicelib.admin import admin

app = Chalice(app_name="shape-prefixed-authorizer")
app.register_blueprint(admin, name_prefix="admin_", url_prefix="/admin")
