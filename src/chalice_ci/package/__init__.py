"""Packages: from requirements to the archives that Lambda gets; `build` puts the parts together."""
