"""Calls to Vertex AI, one module per wire format. Answers are decoded as they arrive."""
