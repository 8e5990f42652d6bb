"""Telling receivers what happened: the outbox, the pump that empties it, and the endpoints it goes to."""
