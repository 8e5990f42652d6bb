"""The models that the emulator plays, a page for each: what it takes, what it makes, how it answers."""
