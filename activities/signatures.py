"""All activities by name, input and result. Workflows call these; other modules here implement them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from temporalio import activity

from domain.analysis import HealthProbe, HealthReport, Watch, WatchVerdict
from domain.approval_card import ApprovalCard, PersonalAnswer
from domain.approval_facts import FactsQuery, LookedUp
from domain.audit import AuditEvent, AuditReceipt
from domain.blue_green import Colours, SideScale, Switch
from domain.build import (
    Checkout,
    CheckoutRequest,
    ReleaseArtefact,
    ReleaseRun,
    ReservationRequest,
    StepRun,
    Workspace,
)
from domain.checks import CheckReceipt, CheckRun
from domain.dependency_update import (
    BranchHead,
    BranchQuery,
    DependencyChange,
    DependencyUpdatePlan,
    DependencyUpdateRequest,
    DependencyUpdateRun,
)
from domain.deployment import DeploymentRequest
from domain.environment import TurnRequest
from domain.evidence import ApprovalEvidence, EvidenceQuery
from domain.feature_flags import FlagChange, FlagReading
from domain.gates import StepReport
from domain.handover import HandoverCommand, HandoverReading, HandoverRequest
from domain.hooks import HookReport, HookRun
from domain.hot_upgrade import NodeCommand, NodeObservation, NodeQuery, NodeReport, NodeTarget
from domain.identity import Identification, IdentityQuery
from domain.liveness import LivenessQuery, LivenessReport
from domain.notification import Notification, NotificationReceipt
from domain.plan import DeploymentPlan
from domain.pull_requests import PullRequestDraft, PullRequestQuery, PullRequestReceipt
from domain.schedules import ScheduledEvent, ScheduledOccurrence, ScheduledRule
from domain.triggers import Route
from domain.validation import Claim, Rivals, ValidationPlan, ValidationRequest, ValidationStatus
from domain.workload import (
    ReleaseApply,
    ReleaseQuery,
    Restore,
    RolloutResult,
    RolloutWatch,
    WeightChange,
    WeightReading,
    WorkloadObservation,
    WorkloadTarget,
)


class PlanSignatures(ABC):
    """Reads deployment.yaml."""

    @activity.defn
    @abstractmethod
    async def resolve_deployment_plan(self, request: DeploymentRequest) -> DeploymentPlan:
        """The plan for a request; InvalidInput or InvalidConfiguration if there can be none."""


class ValidationSignatures(ABC):
    """Reads deployment.yaml for validations."""

    @activity.defn
    @abstractmethod
    async def resolve_validation_plan(self, request: ValidationRequest) -> ValidationPlan:
        """The plan for a validation; InvalidInput or InvalidConfiguration if there can be none."""


class RivalSignatures(ABC):
    """Knows which validations run."""

    @activity.defn
    @abstractmethod
    async def supersede_rivals(self, claim: Claim) -> Rivals:
        """Tell older validations of the same pull request that they are outdated; is there a newer one?"""


class ScheduleSignatures(ABC):
    """Reads deployment.yaml for what the clock starts."""

    @activity.defn
    @abstractmethod
    async def read_scheduled_rule(self, event: ScheduledEvent) -> ScheduledRule:
        """The rule that has fired, as it stands now; InvalidInput if it is gone."""

    @activity.defn
    @abstractmethod
    async def route_scheduled_event(self, occurrence: ScheduledOccurrence) -> Route:
        """What the rule starts."""


class DependencyPlanSignatures(ABC):
    """Reads deployment.yaml for dependency updates, and knows their validations."""

    @activity.defn
    @abstractmethod
    async def resolve_dependency_update(self, request: DependencyUpdateRequest) -> DependencyUpdatePlan:
        """The plan for an update; InvalidInput or InvalidConfiguration if there can be none."""

    @activity.defn
    @abstractmethod
    async def follow_validation(self, request: ValidationRequest) -> ValidationStatus:
        """Wait for a validation that somebody else has started; heartbeats."""


class DependencySignatures(ABC):
    """Runs on the `builds` queue."""

    @activity.defn
    @abstractmethod
    async def find_branch_head(self, query: BranchQuery) -> BranchHead:
        """The newest commit of a branch, asked of the repository itself."""

    @activity.defn
    @abstractmethod
    async def update_dependencies(self, run: DependencyUpdateRun) -> DependencyChange:
        """Run the command in a fresh checkout, commit what it changes, push that; heartbeats."""


class PullRequestSignatures(ABC):
    """Opens pull requests."""

    @activity.defn
    @abstractmethod
    async def find_pull_request(self, query: PullRequestQuery) -> PullRequestReceipt:
        """The open pull request of a branch, and whether there could be one."""

    @activity.defn
    @abstractmethod
    async def open_pull_request(self, draft: PullRequestDraft) -> PullRequestReceipt:
        """Open the one pull request of a branch, or bring it up to date."""


class TurnSignatures(ABC):
    """Talks to EnvironmentWorkflow, which may have to be started first."""

    @activity.defn
    @abstractmethod
    async def request_turn(self, request: TurnRequest) -> None:
        """Signal-with-start the environment; asking twice is asking once."""

    @activity.defn
    @abstractmethod
    async def report_liveness(self, query: LivenessQuery) -> LivenessReport:
        """Which of the asked workflows have ended."""


class BuildSignatures(ABC):
    """Runs on the `builds` queue; after the reservation, on one worker's own queue."""

    @activity.defn
    @abstractmethod
    async def reserve_workspace(self, request: ReservationRequest) -> Workspace:
        """Name the queue of the worker that took this activity."""

    @activity.defn
    @abstractmethod
    async def check_out(self, request: CheckoutRequest) -> Checkout:
        """A work tree of one commit; the same request finds the same work tree."""

    @activity.defn
    @abstractmethod
    async def run_step(self, run: StepRun) -> StepReport:
        """Run one measured step. A tool that is missing or cannot be read is a report, not an error."""

    @activity.defn
    @abstractmethod
    async def build_release(self, run: ReleaseRun) -> ReleaseArtefact:
        """Build the release once per commit and version; the artefact is kept under its digest."""


class KubernetesSignatures(ABC):
    """Changes and watches workloads."""

    @activity.defn
    @abstractmethod
    async def observe_workload(self, target: WorkloadTarget) -> WorkloadObservation:
        """What the stable track shows now."""

    @activity.defn
    @abstractmethod
    async def apply_release(self, request: ReleaseApply) -> WorkloadObservation:
        """Put a version on a track by server-side apply."""

    @activity.defn
    @abstractmethod
    async def watch_rollout(self, watch: RolloutWatch) -> RolloutResult:
        """Wait for the roll-out to complete or to fail; heartbeats."""

    @activity.defn
    @abstractmethod
    async def set_weight(self, change: WeightChange) -> WeightReading:
        """Give the canary its share, and read back what was taken."""

    @activity.defn
    @abstractmethod
    async def find_release(self, query: ReleaseQuery) -> WorkloadObservation:
        """An earlier version among the stable track's ReplicaSets, newest first; else exists=False."""

    @activity.defn
    @abstractmethod
    async def restore_workload(self, restore: Restore) -> WorkloadObservation:
        """Bring the stable track back to what was observed before."""

    @activity.defn
    @abstractmethod
    async def remove_canary(self, target: WorkloadTarget) -> None:
        """Delete the canary track, if it is there."""


class ColourSignatures(ABC):
    """Blue/green: looks at all sides, and switches between them."""

    @activity.defn
    @abstractmethod
    async def observe_colours(self, target: WorkloadTarget) -> Colours:
        """Which side serves, and what all run."""

    @activity.defn
    @abstractmethod
    async def apply_side(self, request: ReleaseApply) -> WorkloadObservation:
        """Put a version on a side without traffic, out of reach of the Service; Refused if it serves."""

    @activity.defn
    @abstractmethod
    async def switch_traffic(self, switch: Switch) -> Colours:
        """Point the Service at a side that can take it; Refused if it is broken or gone. Read back."""

    @activity.defn
    @abstractmethod
    async def scale_side(self, scale: SideScale) -> Colours:
        """Scale a side without traffic, and wait for its pods; Refused for the one that serves."""

    @activity.defn
    @abstractmethod
    async def release_traffic(self, target: WorkloadTarget) -> Colours:
        """The plain Deployment serves again: end both sides, and give the Service its own selector back."""


class HandoverSignatures(ABC):
    """Gives a canary to Flagger or Argo Rollouts."""

    @activity.defn
    @abstractmethod
    async def observe_handover(self, request: HandoverRequest) -> WorkloadObservation:
        """What runs where the controller looks for the version; of the request only the place counts."""

    @activity.defn
    @abstractmethod
    async def begin_handover(self, request: HandoverRequest) -> HandoverReading:
        """Put the version where the controller looks for it."""

    @activity.defn
    @abstractmethod
    async def watch_handover(self, request: HandoverRequest) -> HandoverReading:
        """Wait until the controller has promoted the version or given it up; tells the workflow between."""

    @activity.defn
    @abstractmethod
    async def command_handover(self, command: HandoverCommand) -> HandoverReading:
        """Pass a person's word on in the controller's own way."""


class FlagSignatures(ABC):
    """Feature flags."""

    @activity.defn
    @abstractmethod
    async def set_flag(self, change: FlagChange) -> FlagReading:
        """Set a flag's share, or switch it off; read back."""


class HookSignatures(ABC):
    """Steps of the service itself."""

    @activity.defn
    @abstractmethod
    async def run_hook(self, run: HookRun) -> HookReport:
        """Run a hook once per key, as far as that can be known; heartbeats."""


class NodeSignatures(ABC):
    """Running OTP releases."""

    @activity.defn
    @abstractmethod
    async def find_nodes(self, query: NodeQuery) -> tuple[NodeTarget, ...]:
        """The nodes of a workload; NotFound if there are none."""

    @activity.defn
    @abstractmethod
    async def observe_node(self, target: NodeTarget) -> NodeObservation:
        """What runs on a node, and what it knows."""

    @activity.defn
    @abstractmethod
    async def command_node(self, command: NodeCommand) -> NodeReport:
        """Upgrade, make permanent, downgrade or restart; what is so already is done. Heartbeats."""


class WatchSignatures(ABC):
    """Measures a release."""

    @activity.defn
    @abstractmethod
    async def check_health(self, probe: HealthProbe) -> HealthReport:
        """One round of requests to the health endpoints."""

    @activity.defn
    @abstractmethod
    async def watch_release(self, watch: Watch) -> WatchVerdict:
        """Measure every interval until there is a verdict; the tally travels in the heartbeat."""


class NotificationSignatures(ABC):
    """Tells people."""

    @activity.defn
    @abstractmethod
    async def notify(self, notification: Notification) -> NotificationReceipt:
        """Send to every channel that wants this type; the same key is sent once."""


class ConversationSignatures(ABC):
    """Talks with people where they can answer."""

    @activity.defn
    @abstractmethod
    async def show_approval(self, card: ApprovalCard) -> NotificationReceipt:
        """Show an approval where people can decide, or bring what is shown up to date."""

    @activity.defn
    @abstractmethod
    async def answer_person(self, answer: PersonalAnswer) -> NotificationReceipt:
        """Tell one person alone."""


class FactsSignatures(ABC):
    """Looks up what people want to know before they decide."""

    @activity.defn
    @abstractmethod
    async def look_up_facts(self, query: FactsQuery) -> LookedUp:
        """Diff, soak and address of a deployment; what is not known is left out."""


class IdentitySignatures(ABC):
    """Knows who may sign for whom."""

    @activity.defn
    @abstractmethod
    async def verify_identity(self, query: IdentityQuery) -> Identification:
        """Whether a decision was signed by somebody who may speak for the person it names."""


class GitHostSignatures(ABC):
    """Talks to the Git host."""

    @activity.defn
    @abstractmethod
    async def find_approval_evidence(self, query: EvidenceQuery) -> ApprovalEvidence:
        """The merged pull request that brought a commit, and its standing approvals."""

    @activity.defn
    @abstractmethod
    async def publish_check(self, check: CheckRun) -> CheckReceipt:
        """Show a validation at its commit, or bring what is shown up to date."""


class AuditSignatures(ABC):
    """Keeps the audit trail."""

    @activity.defn
    @abstractmethod
    async def record_audit_event(self, event: AuditEvent) -> AuditReceipt:
        """Append to the deployment's hash chain; the same event id is stored once."""
