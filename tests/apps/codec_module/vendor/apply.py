NAME = "own apply"
