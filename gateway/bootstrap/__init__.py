"""The composition root: every collaborator is built here, once, and closed here, in reverse."""
