"""Zeichen aus aller Welt – überall, wo sie erlaubt sind. 🌍"""

from chalice import Chalice, CORSConfig

from chalicelib.größe import größe

app = Chalice(app_name="shape-unicode")


@app.route("/gruesse", methods=["GET", "POST"], cors=CORSConfig(allow_headers=["X-Ware"]))
def grüße():
    """Sagt „Guten Tag“."""
    return {"größe": größe("文字")}


@app.schedule("rate(7 days)", name="weekly", description="Wöchentlicher Bericht – 每周报告 📈")
def wöchentlich(event):
    return {}
