"""Everything that is done to sound: pure functions over files, for threads to run."""
