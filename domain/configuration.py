"""``deployment.yaml``: the whole configuration. Its defaults are the specification's YAML blocks, value for value."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from domain.analysis import NoData
from domain.build import BuildDefinition
from domain.canary import CanarySettings
from domain.compliance import Checklist, ComplianceMode
from domain.disaster_recovery import RecoveryTrigger
from domain.durations import Duration
from domain.environment import QueuePolicy
from domain.gates import GateDefinition
from domain.model import Model
from domain.promotion import PromotionCriteria
from domain.strategy import RollbackSettings
from domain.triggers import TriggerRule
from domain.workload import WorkloadSettings

ERROR_RATE_QUERY = (
    '100 * sum(rate(erlmcp_requests_total{{{selector},status=~"5.."}}[{window}]))'
    " / sum(rate(erlmcp_requests_total{{{selector}}}[{window}]))"
)
LATENCY_P95_QUERY = "histogram_quantile(0.95, sum by (le)(rate(erlmcp_request_duration_seconds_bucket{{{selector}}}[{window}])))"
LATENCY_P99_QUERY = LATENCY_P95_QUERY.replace("0.95", "0.99")
CRASH_RATE_QUERY = (
    'max(increase(kube_pod_container_status_restarts_total{{namespace="{namespace}",'
    'pod=~"{application}-.*"}}[{window}])) / {window_minutes}'
)

Template = Annotated[str, StringConstraints(min_length=1)]
"""Text with ``{application}``, ``{environment}`` and ``{version}``, replaced when a plan is made."""


class RollbackPolicy(StrEnum):
    """When an environment rolls back by itself (the spec's ``rollback_strategy`` of a stage).

    All three roll back a failed deployment; they differ in what Monitoring does: ``immediate`` and
    ``automatic`` roll back on any trigger, ``on_failure`` only on failed health checks.
    """

    IMMEDIATE = "immediate"
    ON_FAILURE = "on_failure"
    AUTOMATIC = "automatic"


class MonitoringLevel(StrEnum):
    """What is watched: ``basic`` health, ``standard`` and the error rate, ``full`` and latency and crashes."""

    BASIC = "basic"
    STANDARD = "standard"
    FULL = "full"


class HealthSettings(Model):
    """Where and how the service says that it is well.

    Attributes:
        url: of the stable track, as the worker reaches it.
        canary_url: of the canary alone; without it the canary's health is its pods' readiness.
        version_field: require the ``version`` field of the answer, if it has one, to name the version.
    """

    url: Template
    canary_url: Template | None = None
    paths: tuple[str, ...] = ("/health", "/ready", "/live")
    healthy_words: tuple[str, ...] = ("healthy", "ok", "up")
    timeout: Duration = timedelta(seconds=5)
    version_field: bool = True


class MetricSettings(Model):
    """Queries of the metric source; ``{window}`` and ``{selector}`` are replaced besides the usual names.

    Attributes:
        prometheus_url: base address of the Prometheus HTTP API; none switches metrics off.
        stable_selector: label matchers of the stable side's series.
        canary_selector: the same for the canary's.
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
    """Files of the repository that the compliance checklist looks at."""

    changelog: str = "CHANGELOG.md"
    migrations: str = "docs/migrations"
    runbook: str = "docs/runbook.md"
    alert_rules: str = "ops/alerts.yml"


class ApplicationSettings(Model):
    """One deployable service.

    Attributes:
        repository: what ``git clone`` takes; credentials belong in the worker's environment.
        tag: the tag of a version.
        image: what the pods run; the answer of the build's ``publish`` command replaces it.
        namespace: template of the namespace.
        namespaces: environment → namespace, where the template does not fit.
        overrides: environment → parts of ``workload``, ``health`` and ``metrics`` that differ there.
    """

    repository: str
    tag: Template = "v{version}"
    image: Template
    namespace: Template = "{application}-{environment}"
    namespaces: dict[str, str] = {}
    workload: WorkloadSettings = WorkloadSettings()
    health: HealthSettings | None = None
    metrics: MetricSettings = MetricSettings()
    build: BuildDefinition = BuildDefinition()
    documents: DocumentSettings = DocumentSettings()
    overrides: dict[str, ApplicationOverride] = {}


class ApplicationOverride(Model):
    """What differs in one environment, in the shape of the parts it is merged into."""

    workload: dict[str, Any] = {}
    health: dict[str, Any] = {}
    metrics: dict[str, Any] = {}


class EnvironmentSettings(Model):
    """One stage of the promotion pipeline."""

    auto_deploy: bool = False
    required_gates: tuple[str, ...] = ("compile",)
    approval: str | None = None
    min_approvals: int = Field(default=1, ge=1)
    rollback_strategy: RollbackPolicy = RollbackPolicy.AUTOMATIC
    monitoring: MonitoringLevel = MonitoringLevel.STANDARD
    soak_duration: Duration = timedelta(minutes=5)
    canary: CanarySettings | None = None
    compliance: ComplianceMode = ComplianceMode.REPORT
    queue: QueuePolicy = QueuePolicy.SUPERSEDE
    rollback: RollbackSettings = RollbackSettings()
    production: bool = False


class HealthTrigger(Model):
    consecutive_failures: int = Field(default=3, ge=1)
    check_interval: Duration = timedelta(seconds=30)
    timeout: Duration = timedelta(minutes=5)


class ErrorRateTrigger(Model):
    threshold: float = Field(default=5, ge=0, description="percent")
    window: Duration = timedelta(minutes=5)
    comparison: Literal["baseline", "absolute"] = "baseline"


class LatencyTrigger(Model):
    p95_threshold: Duration = timedelta(seconds=10)
    p99_threshold: Duration = timedelta(seconds=30)
    window: Duration = timedelta(minutes=5)


class CrashRateTrigger(Model):
    threshold: float = Field(default=1, ge=0, description="crashes per pod per minute")
    window: Duration = timedelta(minutes=2)


class CanaryFailureTrigger(Model):
    error_rate_increase: float = Field(default=50, ge=0, description="percent above the stable version's")
    rollback_to: Literal["stable_version"] = "stable_version"


class RollbackTriggers(Model):
    """The spec's ``automatic_rollback_triggers``."""

    health_checks: HealthTrigger = HealthTrigger()
    error_rate: ErrorRateTrigger = ErrorRateTrigger()
    latency: LatencyTrigger = LatencyTrigger()
    crash_rate: CrashRateTrigger = CrashRateTrigger()
    canary_failure: CanaryFailureTrigger = CanaryFailureTrigger()


class SlackSettings(Model):
    """The spec's Slack channels; ``${NAME}`` is read from the environment when a message is sent.

    Attributes:
        api_url: of the Slack Web API, for a bot token.
    """

    webhooks: dict[str, str] = {}
    channels: dict[str, str] = {}
    api_url: str = "https://slack.com/api/"


class TeamsSettings(Model):
    webhook: str = "${TEAMS_WEBHOOK}"
    enable: bool = True


class PagerDutySettings(Model):
    integration_key: str = "${PAGERDUTY_KEY}"
    severity_mapping: dict[str, str] = {}


class EmailSettings(Model):
    recipients: dict[str, tuple[str, ...]] = {}


class NotificationChannels(Model):
    """The spec's ``notification_channels``."""

    slack: SlackSettings = SlackSettings()
    teams: TeamsSettings = TeamsSettings()
    pagerduty: PagerDutySettings = PagerDutySettings()
    email: EmailSettings = EmailSettings()


class PrimaryAuditStorage(Model):
    type: Literal["elasticsearch", "sqlite"] = "elasticsearch"
    index: str = "erlmcp-deployment-audit"
    retention: str = "7y"


class BackupAuditStorage(Model):
    type: Literal["s3"] = "s3"
    bucket: str = "erlmcp-audit-logs"
    prefix: str = "deployment/"
    retention: str = "permanent"


class AuditStorage(Model):
    """The spec's ``audit_storage``. The worker keeps the chain in its own SQLite file as well."""

    primary: PrimaryAuditStorage = PrimaryAuditStorage()
    backup: BackupAuditStorage = BackupAuditStorage()
    immutable: bool = True
    tamper_evident: bool = True


class Directory(Model):
    """People and the roles they hold."""

    roles: dict[str, tuple[str, ...]] = {}


class Configuration(Model):
    """The root of ``deployment.yaml``.

    A file is merged over `domain.defaults.DEFAULTS` before it is read (see `domain.defaults.merge`),
    so it only has to say what differs from the specification.
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


ApplicationSettings.model_rebuild()
