"""Latency and memory of whole agents as the context grows."""
