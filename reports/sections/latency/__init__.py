"""Latency and memory of a decision against context."""
