"""What changing the Chalice version means for an app: what a release changed, and where it shows.

`facts` is what the detectors look at, read by `reading`; `python_calls` and `scripts` read source
text and shell commands; `detectors` say whether and where an app is touched; `catalogue` loads the
notes (`notes.toml`, `changelog.toml`) and `notes_between` picks those between two releases;
`findings` are what every check says, whatever the release before was.
"""
