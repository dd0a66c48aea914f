"""Azure Repos on this machine, as far as its adapter speaks to it."""
