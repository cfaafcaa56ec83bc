"""What the product does to the outside world: one module per system, each effect idempotent by its key.

`signatures` declares all activities; workflows import nothing else from here.
"""
