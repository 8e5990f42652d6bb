"""A look-alike of Vertex AI music models. Imports nothing else of this package."""
