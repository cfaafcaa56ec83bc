"""Before a gate opens: what people need to decide, and approvals that are there already (design, no. 9)."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.signatures import FactsSignatures, GitHostSignatures
from domain.approval import (
    ApprovalPolicy,
    ApprovalStatus,
    Decision,
    DecisionMessage,
    EarlyDecision,
    Verb,
)
from domain.approval_facts import ApprovalFacts, FactsQuery, GateFact, LookedUp
from domain.audit import AuditCategory
from domain.build import Checkout
from domain.deployment import DeploymentRequest, DeploymentStatus
from domain.evidence import ApprovalEvidence, EvidenceQuery
from domain.plan import DeploymentPlan
from domain.risk import assess
from workflows import effects
from workflows.failures import reason_of
from workflows.journal import Journal


def broke_glass(status: ApprovalStatus, policy: ApprovalPolicy) -> tuple[Decision, ...]:
    """Who approved it by breaking the glass; nobody, if it was not approved so."""
    emergency, decisions = policy.emergency, status.emergency_approvals
    return decisions if emergency is not None and len(decisions) >= emergency.people else ()


async def gather_facts(
    plan: DeploymentPlan, request: DeploymentRequest, status: DeploymentStatus, checkout: Checkout
) -> ApprovalFacts:
    """All that one needs to decide; what cannot be looked up is left out."""
    previous = status.previous_version
    query = FactsQuery(
        application=request.application,
        environment=request.environment,
        version=request.version,
        commit=checkout.commit,
        previous_ref=None if previous is None else plan.reference_of(previous),
        deployment_id=request.deployment_id,
        run_id=workflow.info().run_id,
    )
    try:
        found = await workflow.execute_activity_method(
            FactsSignatures.look_up_facts, query, summary="look up diff and soak", **effects.LOOK_UP
        )
    except ActivityError as error:
        workflow.logger.warning("deciding without diff and soak: %s", reason_of(error))
        found = LookedUp()
    risk = assess(plan=plan, request=request, status=status)
    return ApprovalFacts(
        commit=checkout.commit,
        subject=checkout.subject,
        previous_version=previous,
        diff_url=found.diff_url,
        gates=tuple(GateFact(name=g.name, outcome=g.outcome, reason=g.reason) for g in status.gates),
        compliance_gaps=()
        if status.compliance is None
        else tuple(gap.reason or gap.item for gap in status.compliance.gaps),
        risk=risk.level,
        risks=risk.reasons,
        soak=found.soak,
        reason=request.reason,
        deployment_url=found.deployment_url,
    )


async def find_evidence(
    request: DeploymentRequest, policy: ApprovalPolicy, checkout: Checkout, journal: Journal
) -> tuple[EarlyDecision, ...]:
    """The reviews of the merged pull request that brought the commit, as decisions for the gate.

    They are held against the gate's rules like any other decision.
    """
    query = EvidenceQuery(application=request.application, commit=checkout.commit, project=request.project)
    try:
        evidence = await workflow.execute_activity_method(
            GitHostSignatures.find_approval_evidence,
            query,
            summary="look up the pull request's reviews",
            **effects.LOOK_UP,
        )
    except ActivityError as error:
        evidence = ApprovalEvidence(reason=f"the pull request cannot be looked up: {reason_of(error)}")
    found = evidence.pull_request
    journal.note(
        "approval.evidence",
        "find_approval_evidence",
        "success" if found is not None and found.approvals else "failed",
        category=AuditCategory.APPROVAL,
        reason=evidence.reason,
        gate=policy.gate,
        pull_request=None if found is None else found.model_dump(mode="json"),
    )
    if found is None:
        return ()
    return tuple(
        EarlyDecision(
            verb=Verb.APPROVE,
            message=DecisionMessage(
                actor=review.person,
                comment=f"approved pull request #{found.number}: {review.url}",
                source="github",
                gate=policy.gate,
                id=f"github:{found.number}:{review.login}",
            ),
            evidence=True,
        )
        for review in found.approvals
        if review.person is not None
    )
