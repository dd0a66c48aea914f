from pathlib import Path


def motto():
    return (Path(__file__).parent / "data" / "motto.txt").read_text(encoding="utf-8").strip()
