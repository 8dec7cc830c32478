"""Networks that were exported to a file, each with a sidecar that tells how to use it."""
