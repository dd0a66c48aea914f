def größe(text):
    return len(text)
