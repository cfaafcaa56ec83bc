"""The processes of the specification, one module each: what happens in which order, and nothing else.

Workflows wait on durable timers and signals and call activities by their signatures; they do no I/O.
"""
