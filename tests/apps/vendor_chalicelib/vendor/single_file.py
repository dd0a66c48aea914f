NAME = "single"
