"""A GitHub without a network: the emulator, GitHub's own description before it, its webhooks.

Not named `github`, which PyGithub's package is called.
"""
