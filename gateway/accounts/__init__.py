"""Who may call: tenants, keys, and the check of a presented key."""
