"""The action model: configuration, tokens, encoders, network, presets."""
