"""``deployment.yaml``: the whole configuration. Its defaults are the specification's YAML blocks."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from domain.analysis import NoData
from domain.analysis.settings import AnalysisSettings
from domain.approval_settings import ApprovalSettings, Delegation
from domain.blue_green import BlueGreenSettings
from domain.build import BuildDefinition
from domain.canary import CanarySettings
from domain.compliance import Checklist, ComplianceMode
from domain.dependency_update import DependencySettings
from domain.disaster_recovery import RecoveryTrigger
from domain.durations import Duration, Interval, parse_duration
from domain.environment import QueuePolicy
from domain.feature_flags import FlagRollout
from domain.gates import GateDefinition
from domain.hot_upgrade import HotUpgradeSettings
from domain.identity import Signer
from domain.model import Model
from domain.promotion import PromotionCriteria
from domain.rollback_triggers import RollbackTriggers
from domain.strategy import RollbackSettings
from domain.triggers import TriggerRule
from domain.workload import WorkloadSettings

ERROR_RATE_QUERY = (
    '100 * (sum(rate(erlmcp_requests_total{{{selector},status=~"5.."}}[{window}]))'
    " or 0 * sum(rate(erlmcp_requests_total{{{selector}}}[{window}])))"
    " / sum(rate(erlmcp_requests_total{{{selector}}}[{window}])) >= 0"
)
"""Percent of the requests. ``or`` makes it 0, not "no data", while no request has ever failed; ``>= 0`` makes
the NaN of "no traffic" what it is, no data (a NaN that reaches a policy counts as an error)."""
LATENCY_P95_QUERY = (
    "histogram_quantile(0.95, sum by (le)"
    "(rate(erlmcp_request_duration_seconds_bucket{{{selector}}}[{window}]))) >= 0"
)
LATENCY_P99_QUERY = LATENCY_P95_QUERY.replace("0.95", "0.99")
CRASH_RATE_QUERY = (
    'max(increase(kube_pod_container_status_restarts_total{{namespace="{namespace}",'
    'pod=~"{pod}"}}[{window}])) / {window_minutes}'
)

Template = Annotated[str, StringConstraints(min_length=1)]
"""Text with ``{application}``, ``{environment}`` and ``{version}``, replaced when a plan is made."""


def _checked_retention(text: str) -> str:
    if text != "permanent":
        parse_duration(text)
    return text


Retention = Annotated[str, AfterValidator(_checked_retention)]
"""A duration, or ``permanent``."""


class RollbackPolicy(StrEnum):
    """When an environment rolls back by itself (the spec's ``rollback_strategy`` of a stage).

    All three roll back a failed deployment; they differ in what Monitoring does: ``immediate`` and
    ``automatic`` roll back on any trigger, ``on_failure`` only on failed health checks.
    """

    IMMEDIATE = "immediate"
    ON_FAILURE = "on_failure"
    AUTOMATIC = "automatic"


class MonitoringLevel(StrEnum):
    """What is watched: ``basic`` health, ``standard`` also errors, ``full`` also latency and crashes."""

    BASIC = "basic"
    STANDARD = "standard"
    FULL = "full"


class HealthSettings(Model):
    """Where and how the service says that it is well.

    Attributes:
        url: of the stable track, as the worker reaches it.
        canary_url: of the canary alone; without it the canary's health is its pods' readiness.
        paths: each must answer 200.
        healthy_words: accepted values of the answer's ``status`` field, if it has one.
        timeout: of one request.
        version_field: require the ``version`` field of the answer, if it has one, to name the version.
    """

    url: Template
    canary_url: Template | None = None
    paths: tuple[str, ...] = ("/health", "/ready", "/live")
    healthy_words: tuple[str, ...] = ("healthy", "ok", "up")
    timeout: Interval = timedelta(seconds=5)
    version_field: bool = True


class MetricSettings(Model):
    """Queries of the metric source; ``{window}``, ``{selector}`` and ``{pod}`` (a pattern of the pods'
    names) are replaced besides the usual names.

    Attributes:
        prometheus_url: base address of the Prometheus HTTP API; none switches metrics off.
        stable_selector: label matchers of the stable side's series.
        canary_selector: the same for the canary's.
        error_rate: percent of failed requests.
        latency_p95: seconds.
        latency_p99: seconds.
        crash_rate: crashes per pod and minute; also knows ``{window_minutes}``.
        no_data: what an empty answer means.
        error_limit: measurements in a row that may be impossible before the watch fails.
    """

    prometheus_url: Template | None = None
    stable_selector: Template = 'namespace="{namespace}",track="stable"'
    canary_selector: Template = 'namespace="{namespace}",track="canary"'
    error_rate: Template = ERROR_RATE_QUERY
    latency_p95: Template = LATENCY_P95_QUERY
    latency_p99: Template = LATENCY_P99_QUERY
    crash_rate: Template = CRASH_RATE_QUERY
    no_data: NoData = NoData.INCONCLUSIVE
    error_limit: int = Field(default=4, ge=0)


class DocumentSettings(Model):
    """Files of the repository that the compliance checklist looks at.

    Attributes:
        changelog: must name the version.
        migrations: directory with one guide per version.
        runbook: must exist.
        alert_rules: Prometheus rules of the service.
    """

    changelog: str = "CHANGELOG.md"
    migrations: str = "docs/migrations"
    runbook: str = "docs/runbook.md"
    alert_rules: str = "ops/alerts.yml"


class ApplicationSettings(Model):
    """One deployable service.

    Attributes:
        repository: what ``git clone`` takes; credentials belong in the worker's environment.
        project: ``owner/name`` on the Git host, whose events concern this application; by default it is read
            from `repository`.
        tag: the tag of a version.
        image: what the pods run; the answer of the build's ``publish`` command replaces it.
        namespace: template of the namespace.
        namespaces: environment → namespace, where the template does not fit.
        workload: how its Deployment looks.
        health: where it says that it is well; required for production.
        metrics: where its error rate, latency and crashes are measured.
        analysis: further metrics of its own that its releases are judged by.
        build: its measured steps, and how the release is made.
        documents: files that the compliance checklist looks at.
        dependencies: how they are brought up to date; by default by ``rebar3 upgrade --all``, where rebar3
            builds it.
        overrides: environment → parts of ``workload``, ``health`` and ``metrics`` that differ there.
    """

    repository: str
    project: str | None = None
    tag: Template = "v{version}"
    image: Template
    namespace: Template = "{application}-{environment}"
    namespaces: dict[str, str] = {}
    workload: WorkloadSettings = WorkloadSettings()
    health: HealthSettings | None = None
    metrics: MetricSettings = MetricSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    build: BuildDefinition = BuildDefinition()
    documents: DocumentSettings = DocumentSettings()
    dependencies: DependencySettings | None = None
    overrides: dict[str, ApplicationOverride] = {}


class ApplicationOverride(Model):
    """What differs in one environment, in the shape of the parts it is laid over; ``null`` switches off.

    Attributes:
        workload: parts of WorkloadSettings.
        health: parts of HealthSettings.
        metrics: parts of MetricSettings.
    """

    workload: dict[str, Any] = {}
    health: dict[str, Any] = {}
    metrics: dict[str, Any] = {}


class EnvironmentSettings(Model):
    """One stage of the promotion pipeline.

    Attributes:
        auto_deploy: events may deploy here without a person asking for it.
        required_gates: in order; at most one of them manual.
        approval: the role that must approve; without it the approvers of the manual gate.
        min_approvals: distinct people needed.
        approvals: how the gate is decided beyond that.
        require_verified_identity: refuse decisions that are not signed (see docs/security.md).
        operators: roles that may deploy, abort and roll back here from chat and by manual dispatch; none
            means everybody whom the directory knows.
        rollback_strategy: what rolls back by itself while monitoring.
        monitoring: what is watched after a deployment.
        soak_duration: how long it is watched before it counts as completed.
        canary: weights and limits of the canary release; without it the new version takes over at once.
        blue_green: bring the new version up beside the old one and switch; instead of a canary.
        hot_upgrade: upgrade running OTP releases without a restart; instead of a canary.
        feature_flags: flags that are opened step by step when the version is out.
        abort_on_alerts: severities of alerts that abort a deployment here; without any, all do.
        compliance: what a gap in the pre-deployment checklist means.
        queue: what a second deployment does while one runs.
        rollback: how a roll-back is done.
        production: refuse every setting that is not safe enough for customers.
    """

    auto_deploy: bool = False
    required_gates: tuple[str, ...] = ("compile",)
    approval: str | None = None
    min_approvals: int = Field(default=1, ge=1)
    approvals: ApprovalSettings = ApprovalSettings()
    require_verified_identity: bool = False
    operators: tuple[str, ...] = ()
    rollback_strategy: RollbackPolicy = RollbackPolicy.AUTOMATIC
    monitoring: MonitoringLevel = MonitoringLevel.STANDARD
    soak_duration: Duration = timedelta(minutes=5)
    canary: CanarySettings | None = None
    blue_green: BlueGreenSettings | None = None
    hot_upgrade: HotUpgradeSettings | None = None
    feature_flags: tuple[FlagRollout, ...] = ()
    abort_on_alerts: tuple[str, ...] = ()
    compliance: ComplianceMode = ComplianceMode.REPORT
    queue: QueuePolicy = QueuePolicy.SUPERSEDE
    rollback: RollbackSettings = RollbackSettings()
    production: bool = False

    @property
    def evidence_counts(self) -> bool:
        """Whether reviews of a merged pull request count as approvals here."""
        evidence = self.approvals.evidence
        return not self.production if evidence is None else evidence


class SlackSettings(Model):
    """The spec's Slack channels; ``${NAME}`` is read from the environment when a message is sent.

    Attributes:
        webhooks: ``deployments``, ``alerts``, ``incidents`` → ``${NAME}``.
        channels: ``deployment_updates``, ``approvals``, ``alerts``, ``critical`` → channel, for a bot token;
            approvals go to ``deployment_updates`` where they have no channel of their own.
        api_url: of the Slack Web API, for a bot token.
    """

    webhooks: dict[str, str] = {}
    channels: dict[str, str] = {}
    api_url: str = "https://slack.com/api/"


class TeamsSettings(Model):
    """Microsoft Teams.

    Attributes:
        webhook: ``${NAME}`` of the variable that holds the address.
        enable: send there.
    """

    webhook: str = "${TEAMS_WEBHOOK}"
    enable: bool = True


class PagerDutySettings(Model):
    """PagerDuty (Events API).

    Attributes:
        integration_key: ``${NAME}`` of the variable that holds the key.
        severity_mapping: our severity → PagerDuty's.
    """

    integration_key: str = "${PAGERDUTY_KEY}"
    severity_mapping: dict[str, str] = {}


class EmailSettings(Model):
    """Email.

    Attributes:
        recipients: ``deployment``, ``incidents`` → addresses.
    """

    recipients: dict[str, tuple[str, ...]] = {}


class NotificationChannels(Model):
    """The spec's ``notification_channels``.

    Attributes:
        slack: webhooks and channels.
        teams: webhook.
        pagerduty: integration key.
        email: recipients.
    """

    slack: SlackSettings = SlackSettings()
    teams: TeamsSettings = TeamsSettings()
    pagerduty: PagerDutySettings = PagerDutySettings()
    email: EmailSettings = EmailSettings()


class PrimaryAuditStorage(Model):
    """Where the audit trail is searched.

    Attributes:
        type: ``sqlite`` needs no server.
        index: name of the index.
        retention: a duration, or ``permanent``.
    """

    type: Literal["elasticsearch", "sqlite"] = "elasticsearch"
    index: str = "erlmcp-deployment-audit"
    retention: Retention = "7y"


class BackupAuditStorage(Model):
    """The write-once copy.

    Attributes:
        type: an S3 bucket with object lock.
        bucket: its name.
        prefix: of the objects.
        retention: a duration, or ``permanent``.
    """

    type: Literal["s3"] = "s3"
    bucket: str = "erlmcp-audit-logs"
    prefix: str = "deployment/"
    retention: Retention = "permanent"


class AuditStorage(Model):
    """The spec's ``audit_storage``. The worker keeps the chain in its own SQLite file as well.

    Attributes:
        primary: searched.
        backup: write-once.
        immutable: no event is changed or deleted before its retention is over.
        tamper_evident: every event carries the hash of the one before it.
    """

    primary: PrimaryAuditStorage = PrimaryAuditStorage()
    backup: BackupAuditStorage = BackupAuditStorage()
    immutable: Literal[True] = True
    tamper_evident: Literal[True] = True


class Accounts(Model):
    """Who a person is elsewhere.

    Attributes:
        github: login.
        gitlab: user name.
        slack: member id such as ``U012AB3CD``; without it people are found by their email address.
    """

    github: str | None = None
    gitlab: str | None = None
    slack: str | None = None


class Directory(Model):
    """People and the roles they hold.

    Attributes:
        roles: role → people, as they sign their decisions (email addresses).
        accounts: person → accounts at Git hosts and in Slack.
        delegations: who decides for whom, and when.
        on_call: role → people who stand in for it once a gate is escalated.
        signers: name → public key of who signs decisions (see docs/security.md).
    """

    roles: dict[str, tuple[str, ...]] = {}
    accounts: dict[str, Accounts] = {}
    delegations: tuple[Delegation, ...] = ()
    on_call: dict[str, tuple[str, ...]] = {}
    signers: dict[str, Signer] = {}


class GitHostSettings(Model):
    """A Git host that shows results and is asked for reviews.

    Attributes:
        api_url: base address of its REST API.
        url: base address of its pages.
    """

    api_url: str = "https://api.github.com"
    url: str = "https://github.com"


class GitHosts(Model):
    """The Git hosts; ``GITHUB_TOKEN`` is read from the environment.

    Attributes:
        github: GitHub, or GitHub Enterprise Server.
    """

    github: GitHostSettings = GitHostSettings()


class Configuration(Model):
    """The root of ``deployment.yaml``.

    A file is laid over the defaults of the specification before it is read, so it says only what differs.

    Attributes:
        version: of this format.
        applications: name → service.
        environments: name → stage.
        gates: name → gate.
        triggers: name → event and action.
        pre_deployment_compliance: section → items that are held against what the steps measured.
        post_deployment_compliance: the same after the deployment.
        automatic_rollback_triggers: limits that roll back.
        promotions: criteria from one environment to the next.
        notification_channels: who is told, and where.
        audit_storage: where the audit trail is kept.
        disaster_recovery_triggers: name → detection and action.
        directory: people and their roles.
        git_hosts: where pull requests are looked up.
    """

    version: Literal[1] = 1
    applications: dict[str, ApplicationSettings] = {}
    environments: dict[str, EnvironmentSettings] = {}
    gates: dict[str, GateDefinition] = {}
    triggers: dict[str, TriggerRule] = {}
    pre_deployment_compliance: Checklist = {}
    post_deployment_compliance: Checklist = {}
    automatic_rollback_triggers: RollbackTriggers = RollbackTriggers()
    promotions: tuple[PromotionCriteria, ...] = ()
    notification_channels: NotificationChannels = NotificationChannels()
    audit_storage: AuditStorage = AuditStorage()
    disaster_recovery_triggers: dict[str, RecoveryTrigger] = {}
    directory: Directory = Directory()
    git_hosts: GitHosts = GitHosts()


ApplicationSettings.model_rebuild()
