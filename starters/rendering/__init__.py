"""What people see: boards and tables for terminals, one line per change for logs, JSON for programs.

Every text that came from outside is flattened to printable characters first: a comment must not be
able to move the cursor or to forge a log line.
"""

from starters.rendering.board import approval_view, deployment_board, gate_facts, stage_times, state_style
from starters.rendering.delivery import canary_view, warnings_of
from starters.rendering.environment import environment_view, pending_table, rollback_view
from starters.rendering.log import Line, changes
from starters.rendering.screen import Screen, console, print_json
from starters.rendering.text import brief, clean, clock, command_line, target_words
from starters.rendering.validation import validation_view

__all__ = [
    "Line",
    "Screen",
    "approval_view",
    "brief",
    "canary_view",
    "changes",
    "clean",
    "clock",
    "command_line",
    "console",
    "deployment_board",
    "environment_view",
    "gate_facts",
    "pending_table",
    "print_json",
    "rollback_view",
    "stage_times",
    "state_style",
    "target_words",
    "validation_view",
    "warnings_of",
]
