"""What an agent must pass before it plays: step equal to forward, and the Agent contract."""
