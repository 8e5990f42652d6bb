"""Tasks: admitting them, running them, telling how they stand."""
