"""What one needs to know to decide: commit, diff, gates, risk, soak."""

from __future__ import annotations

from domain.model import Model


class GateFact(Model):
    name: str
    outcome: str
    reason: str = ""


class ApprovalFacts(Model):
    """Gathered when the gate opens.

    Attributes:
        diff_url: the Git host's page that compares `previous_version` with this one.
        risk: low, medium or high; `risks` says why.
        soak: how long the version has been in the environments before this one, in words.
        deployment_url: of the Temporal UI.
    """

    commit: str | None = None
    subject: str | None = None
    previous_version: str | None = None
    diff_url: str | None = None
    gates: tuple[GateFact, ...] = ()
    compliance_gaps: tuple[str, ...] = ()
    risk: str | None = None
    risks: tuple[str, ...] = ()
    soak: str | None = None
    reason: str | None = None
    deployment_url: str | None = None


class FactsQuery(Model):
    """What the worker looks up for `ApprovalFacts`.

    Attributes:
        previous_ref: what `commit` is compared with: a tag or commit.
    """

    application: str
    environment: str
    version: str
    commit: str
    previous_ref: str | None = None
    deployment_id: str
    run_id: str


class LookedUp(Model):
    """What was found; none where it is not known."""

    diff_url: str | None = None
    soak: str | None = None
    deployment_url: str | None = None
