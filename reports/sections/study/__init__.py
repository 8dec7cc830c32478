"""Studies: effects of the choices that were varied."""
