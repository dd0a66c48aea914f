NAME = "own load"
