"""GitHub: reviews that approve, checks that people see, pull requests (spec: Pull Request Events)."""

from activities.github.host import GitHostActivities
from activities.github.proposals import PullRequestActivities

__all__ = ["GitHostActivities", "PullRequestActivities"]
