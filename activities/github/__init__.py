"""GitHub: reviews that approve, and checks that people see (spec: Pull Request Events)."""

from activities.github.host import GitHostActivities

__all__ = ["GitHostActivities"]
