"""Simulators behind one Session contract."""
