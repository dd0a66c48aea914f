NAME = "own codec"
