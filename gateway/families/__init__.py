"""The music models, a file for each: what it can do, what it is asked with, how its answer looks."""
