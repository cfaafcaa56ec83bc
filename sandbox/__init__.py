"""The embedded outside world of the demo and the tests: real servers on loopback, no account needed."""
