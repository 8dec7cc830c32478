"""As much of LeRobot as ``lerobot:FOLDER`` calls, around policies of a few numbers; for tests."""

__version__ = "0.4.99"
