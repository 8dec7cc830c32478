"""The action model as an agent: lanes, prefill, limited contexts."""
