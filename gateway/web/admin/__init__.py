"""The admin API: what whoever runs the gateway may do over HTTP, behind a gate of its own."""
