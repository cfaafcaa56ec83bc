"""The webhook receiver, ``erlmcp-deploy serve`` (design, section 4: HTTP)."""
