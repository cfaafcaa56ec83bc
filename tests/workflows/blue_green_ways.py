"""The ways of `workflows.blue_green` that lead back or out, each as a workflow of its own."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from domain.model import Model
    from domain.plan import DeploymentPlan
    from domain.workload import WorkloadObservation
    from workflows import blue_green
    from workflows.failures import ProcessError


class Way(Model):
    """Which way, and what it needs."""

    name: str
    plan: DeploymentPlan
    version: str = ""
    previous: WorkloadObservation | None = None
    deployment_id: str = "deployment:erlmcp:production:3.0.0"


@workflow.defn
class WayWorkflow:
    @workflow.run
    async def run(self, way: Way) -> str:
        """What the way led to, or why it was none."""
        run_key = workflow.info().run_id
        try:
            if way.name == "switch_back":
                seen = await blue_green.switch_back(way.plan, to_version=way.version, run_key=run_key)
                return str(seen.active)
            if way.name == "bring_back" and way.previous is not None:
                await blue_green.bring_back(
                    way.plan, way.previous, run_key=run_key, deployment_id=way.deployment_id
                )
                return "brought back"
            if way.name == "return_to_plain":
                plain = await blue_green.return_to_plain(
                    way.plan, run_key=run_key, deployment_id=way.deployment_id
                )
                return f"plain runs {plain.version}"
        except ProcessError as error:
            return f"ProcessError: {error}"
        raise ValueError(way.name)


@workflow.defn
class FindWorkflow:
    @workflow.run
    async def run(self, way: Way) -> WorkloadObservation:
        return await blue_green.find(way.plan, way.version)
