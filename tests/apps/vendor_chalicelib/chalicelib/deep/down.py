def depth():
    return __name__.count(".")
