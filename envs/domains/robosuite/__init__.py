"""robosuite's own tasks, and the session that CompoSuite and MimicGen play too."""
