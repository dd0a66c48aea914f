"""The deployed state of each stage: its files, its stores and what protects them."""
