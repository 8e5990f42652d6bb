"""A gateway that gives many teams metered access to Google's music models on Vertex AI.

The architecture is described on one page in ``gateway/README.md``.
"""

__version__ = "0.1.0"
