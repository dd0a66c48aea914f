"""The plugins for other CI systems: their files as those systems read them, their commands run."""
