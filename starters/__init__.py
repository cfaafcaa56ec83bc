"""All that starts, signals or asks a process from outside: the command line and its parts."""
