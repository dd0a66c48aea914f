NAME = "own calls"
