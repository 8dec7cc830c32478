"""Checkpoints: folders with configuration and weights, those that come along, and import from other
formats.
"""
