"""What runs inside the app's or the deployer's Python: standard library and chalice only."""
