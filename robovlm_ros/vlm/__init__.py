"""The action-token VLM: backbone, action token, heads, processor."""
