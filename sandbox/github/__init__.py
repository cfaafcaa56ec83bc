"""A stand-in for GitHub: the part of the REST API that deployments use, and the webhooks it sends.

It speaks GitHub's HTTP, keeps everything that is published, and can be told to fail or to throttle.
Nothing leaves the machine.
"""

from sandbox.github.repository import (
    Account,
    CheckRun,
    Commit,
    CommitStatus,
    PullRequest,
    Repository,
    Review,
    ReviewState,
)
from sandbox.github.server import APP_TOKEN, PERSONAL_TOKEN, Call, GitHubServer
from sandbox.github.webhooks import Delivery, signed_headers

__all__ = [
    "APP_TOKEN",
    "PERSONAL_TOKEN",
    "Account",
    "Call",
    "CheckRun",
    "Commit",
    "CommitStatus",
    "Delivery",
    "GitHubServer",
    "PullRequest",
    "Repository",
    "Review",
    "ReviewState",
    "signed_headers",
]
