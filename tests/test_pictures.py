"""The pictures of docs/: each shows what the product writes now, and each is shown."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "pictures"


def test_the_pictures_were_drawn_from_what_the_product_writes_now() -> None:
    draw = runpy.run_path(str(PICTURES / "draw.py"))
    drawn = json.loads((PICTURES / "drawn.json").read_text(encoding="utf-8"))
    now = {name: draw["digest"](page) for name, page in draw["pictures"]().items()}
    assert drawn == now, "run `make pictures` and look at what came of it"


def test_each_picture_exists_in_light_and_dark_and_the_docs_show_it() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    for name in json.loads((PICTURES / "drawn.json").read_text(encoding="utf-8")):
        assert (PICTURES / f"{name}-dark.png").stat().st_size > 1_000
        assert (PICTURES / f"{name}-light.png").stat().st_size > 1_000
        assert f"pictures/{name}-light.png" in pages
