"""Simulators and tasks: one module a domain."""
