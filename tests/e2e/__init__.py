"""The real image, started as GitHub starts it, against an offline GitHub and the embedded AWS."""
