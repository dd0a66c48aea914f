"""Starting the children that run in the app's and in the deployer's Python."""
