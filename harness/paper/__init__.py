"""The figures and tables of the paper (arXiv 2410.22391) as commands: what each asks, and what runs it.

An item is a TOML file in ``shipped/``; ``full.toml`` has what items at the paper's scale share. An item is
run by commands that anybody can give, one after the other; this folder only fills in folders and names.
"""
