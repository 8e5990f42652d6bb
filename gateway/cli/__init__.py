"""The command line: the only place that reads settings and starts processes."""
