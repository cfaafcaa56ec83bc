"""Hot code upgrades of a real erlsample node on this host, while it is asked all the time."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import INVALID_CONFIGURATION, NOT_FOUND, REFUSED
from activities.otp import NodeActivities
from domain.hot_upgrade import HotUpgradeSettings, NodeQuery, NodeResult, NodeVerb, ReleaseNode
from sandbox.otp import Users
from tests.activities.otp.conftest import StartNode
from tests.activities.otp.operating import until_there, worker_process

pytestmark = pytest.mark.erlang

UPGRADE, MAKE_PERMANENT, DOWNGRADE, RESTART = (
    NodeVerb.UPGRADE,
    NodeVerb.MAKE_PERMANENT,
    NodeVerb.DOWNGRADE,
    NodeVerb.RESTART,
)


async def test_an_upgrade_fails_no_request_and_keeps_state_and_configuration(start_node: StartNode) -> None:
    async with start_node("1.0.0") as operator:
        # Given a node under load
        node, life = operator.node, await operator.node.life()
        settings = await node.ask("eval", "application:get_all_env(erlsample).")
        async with Users.of(node) as users:
            counted = users.count
            # When it is upgraded
            report = await operator.carry_out(UPGRADE, "1.1.0")
            # Then it runs the new version, and would boot the old one
            assert (report.result, report.reason) == (NodeResult.DONE, "")
            seen = report.observed
            assert (seen.running, seen.version, seen.permanent) == (True, "1.1.0", "1.0.0")
            assert seen.versions == {"1.1.0": "current", "1.0.0": "permanent"}
            assert await node.health() == (200, "1.1.0")
            # When that is made permanent, as often as somebody wants it
            for _ in range(2):
                report = await operator.carry_out(MAKE_PERMANENT, "1.1.0")
                assert (report.observed.version, report.observed.permanent) == ("1.1.0", "1.1.0")
            again = await operator.carry_out(UPGRADE, "1.1.0")
            assert (again.result, again.reason) == (NodeResult.DONE, "it runs already")
            await users.served(5)
        # Then nobody noticed
        assert users.failures == []
        assert users.count > counted
        assert users.count >= users.answered  # each answer is one bump: none was forgotten
        assert await node.life() == life
        # And its settings are those it was started with, not the defaults
        assert await node.ask("eval", "application:get_all_env(erlsample).") == settings
        script = node.directory / "bin"
        assert (script / "erlsample").read_bytes() == (script / "erlsample-1.1.0").read_bytes()


async def test_an_unhealthy_version_is_taken_back_with_the_state(start_node: StartNode) -> None:
    async with start_node("1.1.0") as operator:
        for _ in range(3):
            await operator.node.get("/bump")
        # Given a version that is unhealthy as soon as it runs
        assert (await operator.carry_out(UPGRADE, "1.2.0")).result is NodeResult.DONE
        assert await operator.node.health() == (503, "1.2.0")
        # When it is taken back
        async with Users.of(operator.node, 1) as users:
            report = await operator.carry_out(DOWNGRADE, "1.1.0")
            await users.served(3)
        # Then the earlier version runs and boots, and has counted on
        assert report.result is NodeResult.DONE
        assert (report.observed.version, report.observed.permanent) == ("1.1.0", "1.1.0")
        assert report.observed.versions["1.2.0"] == "old"
        assert await operator.node.health() == (200, "1.1.0")
        assert users.count > users.answered + 3 - 1
        # And once more changes nothing
        life = await operator.node.life()
        assert (await operator.carry_out(DOWNGRADE, "1.1.0")).result is NodeResult.DONE
        assert await operator.node.life() == life


async def test_an_upgrade_that_crashes_leaves_the_node_in_its_permanent_version(
    start_node: StartNode,
) -> None:
    async with start_node("1.1.0") as operator:
        life = await operator.node.life()
        # When a version is installed whose code cannot take over the state
        report = await operator.carry_out(UPGRADE, "1.3.0")
        # Then the node has restarted by itself, and that was waited for
        assert report.result is NodeResult.FAILED
        assert "code_change_failed" in report.reason
        assert "erlsample_counter:code_change" in report.reason
        assert "=>" not in report.reason  # the state itself is the service's
        assert (report.observed.version, report.observed.permanent) == ("1.1.0", "1.1.0")
        assert await operator.node.health() == (200, "1.1.0")
        second = await operator.node.life()
        assert second != life
        # And if the report is lost, the same command is not tried again
        again = await operator.carry_out(UPGRADE, "1.3.0")
        assert again.result is NodeResult.FAILED
        assert "earlier attempt" in again.reason
        assert await operator.node.life() == second


async def test_without_a_relup_the_node_is_untouched_unless_it_is_restarted(start_node: StartNode) -> None:
    async with start_node("1.0.0") as operator:
        # Given a package whose relup is for another version
        async with Users.of(operator.node) as users:
            report = await operator.carry_out(UPGRADE, "1.2.0")
            await users.served(5)
        assert (report.result, users.failures) == (NodeResult.NO_PATH, [])
        assert report.reason == "the release has no relup between 1.0.0 and 1.2.0"
        assert (report.observed.version, report.observed.permanent) == ("1.0.0", "1.0.0")
        # When the node is restarted in it instead
        life = await operator.node.life()
        report = await operator.carry_out(RESTART, "1.2.0")
        # Then it runs and boots it, with its settings
        assert report.result is NodeResult.DONE
        assert (report.observed.version, report.observed.permanent) == ("1.2.0", "1.2.0")
        assert await operator.node.health() == (200, "1.2.0")
        assert await operator.node.life() != life
        assert (operator.node.directory / "releases" / "start_erl.data").read_text().endswith(" 1.2.0")
        # And only once
        life = await operator.node.life()
        assert (await operator.carry_out(RESTART, "1.2.0")).result is NodeResult.DONE
        assert await operator.node.life() == life
        # And the way back is a restart as well, as there is no relup down
        assert (await operator.carry_out(DOWNGRADE, "1.0.0")).result is NodeResult.NO_PATH
        back = await operator.carry_out(RESTART, "1.0.0", artefact=None, key="back")
        assert (back.result, back.observed.version) == (NodeResult.DONE, "1.0.0")


@pytest.mark.parametrize(
    ("version", "result", "runs"),
    [("1.1.0", NodeResult.DONE, "1.1.0"), ("1.3.0", NodeResult.FAILED, "1.0.0")],
)
async def test_a_worker_killed_in_the_middle_changes_nothing_twice(
    start_node: StartNode, version: str, result: NodeResult, runs: str
) -> None:
    before = "1.0.0" if version == "1.1.0" else "1.1.0"
    async with start_node(before) as operator:
        node, order = operator.node, operator.order(UPGRADE, version)
        attempt = node.directory / "releases" / f".erlsample-{version}.attempt"
        life = await node.life()
        # Given a worker that is killed when it has begun to upgrade
        with worker_process(order, node):
            await until_there(attempt, order.key)
            await asyncio.sleep(0.5)  # somewhere in the installation
        # When another one carries the same order out
        report = await operator.insist(UPGRADE, version)
        # Then it finds what became of it, and goes on from there
        assert report.result is result, report.reason
        assert report.observed.version == (version if result is NodeResult.DONE else before)
        restarts = [life]
        restarts += [now] if (now := await node.life()) != life else []
        assert len(restarts) == (1 if result is NodeResult.DONE else 2)
        # And a third time makes no difference
        assert (await operator.carry_out(UPGRADE, version)).result is result
        assert await node.life() == restarts[-1]


async def test_a_worker_killed_while_it_hands_the_package_over(start_node: StartNode) -> None:
    async with start_node("1.0.0") as operator:
        with worker_process(operator.order(UPGRADE, "1.1.0"), operator.node):
            await until_there(operator.node.directory / "releases" / "erlsample-1.1.0.tar.gz")
        # An interrupted unpacking leaves a link that makes the release's script fail
        link = operator.node.directory / "releases" / "1.1.0" / "erlsample.tar.gz"
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(operator.node.directory / "releases" / "erlsample-1.1.0.tar.gz")
        report = await operator.carry_out(UPGRADE, "1.1.0")
        assert (report.result, report.observed.version) == (NodeResult.DONE, "1.1.0")


async def test_a_cancelled_command_is_followed_to_its_end(start_node: StartNode) -> None:
    async with start_node("1.0.0") as operator:
        environment, order = ActivityEnvironment(), operator.order(UPGRADE, "1.1.0")
        running = asyncio.create_task(environment.run(operator.activities.command_node, order))
        # When it is cancelled as the node begins to change
        await until_there(operator.node.directory / "releases" / ".erlsample-1.1.0.attempt")
        environment.cancel()
        # Then it ends as cancelled, but only when the node has changed
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await operator.observe()).version == "1.1.0"


async def test_other_variables_than_the_node_was_started_with_are_refused(start_node: StartNode) -> None:
    async with start_node("1.0.0") as operator:
        settings = operator.node.directory / "releases" / "1.0.0" / "sys.config"
        before = settings.read_bytes()
        # Given a configuration that forgot the port
        forgetful = {n: v for n, v in operator.target.environment.items() if n != "ERLSAMPLE_PORT"}
        with pytest.raises(ApplicationError, match=r"sys\.config of 1\.0\.0 would be others") as refused:
            await operator.with_target(environment=forgetful).carry_out(UPGRADE, "1.1.0")
        assert refused.value.type == INVALID_CONFIGURATION
        # Then the node and its files are as before
        assert settings.read_bytes() == before
        assert (await operator.observe()).version == "1.0.0"

        # And a variable that the worker does not have is named, and no other's value
        lost = {**operator.target.environment, "ERLSAMPLE_COOKIE": "${NO_SUCH_COOKIE}"}
        with pytest.raises(
            ApplicationError, match=r"ERLSAMPLE_COOKIE.*set them in its environment"
        ) as refused:
            await operator.with_target(environment=lost).observe()
        assert refused.value.non_retryable

        # And with another cookie the node does not answer; nothing shows the cookie
        wrong = {**operator.target.environment, "ERLSAMPLE_COOKIE": "another-cookie-altogether"}
        stranger = operator.with_target(environment=wrong)
        assert not (await stranger.observe()).running
        # And a path without a release is the configuration's fault
        nowhere = operator.target.node.model_copy(update={"path": str(operator.node.directory / "lib")})
        with pytest.raises(ApplicationError, match="correct `path` or `release`") as refused:
            await operator.with_target(node=nowhere).observe()
        assert operator.node.cookie not in str(refused.value)


async def test_only_the_package_that_was_built_is_installed(start_node: StartNode, tmp_path: Path) -> None:
    async with start_node("1.0.0") as operator:
        releases = operator.node.directory / "releases"
        # A package that is not on this worker, or has changed there, goes nowhere
        gone = (tmp_path / "gone.tar.gz").as_uri()
        with pytest.raises(ApplicationError, match="is not on this worker") as missing:
            await operator.carry_out(UPGRADE, "1.1.0", artefact=gone)
        assert missing.value.type == NOT_FOUND
        other = operator.packages["1.2.0"].digest
        with pytest.raises(ApplicationError, match="is not the one that was built") as changed:
            await operator.carry_out(UPGRADE, "1.1.0", digest=other)
        assert changed.value.type == REFUSED
        assert not (releases / "erlsample-1.1.0.tar.gz").exists()

        # One that cannot be unpacked leaves the node as it is
        broken = tmp_path / "broken.tar.gz"
        broken.write_bytes(b"no archive")
        digest = f"sha256:{hashlib.sha256(b'no archive').hexdigest()}"
        report = await operator.carry_out(UPGRADE, "1.1.0", artefact=broken.as_uri(), digest=digest)
        assert (report.result, report.observed.version) == (NodeResult.FAILED, "1.0.0")
        assert "cannot be unpacked" in report.reason

        # Another package of the same version, unpacked before, is replaced by the right one
        unpacked = releases / "1.1.0"
        await operator.node.ask("unpack", "1.1.0")
        right = operator.packages["1.1.0"]
        report = await operator.carry_out(UPGRADE, "1.1.0", key="right")
        assert report.result is NodeResult.DONE, report.reason
        assert (unpacked / "relup").exists()
        found = hashlib.sha256((releases / "erlsample-1.1.0.tar.gz").read_bytes()).hexdigest()
        assert right.digest == f"sha256:{found}"


async def test_a_node_that_is_down_is_an_observation(start_node: StartNode) -> None:
    async with start_node("1.0.0") as operator:
        short = operator.with_target(timeout=timedelta(seconds=2))
        await operator.node.ask("stop")
        assert not (await operator.observe()).running
        report = await short.carry_out(UPGRADE, "1.1.0")
        assert (report.result, report.observed.running) == (NodeResult.FAILED, False)
        assert "does not answer" in report.reason


async def test_configured_nodes_are_found_in_their_order() -> None:
    settings = HotUpgradeSettings(
        nodes=(ReleaseNode(name="b", path="/srv/{application}"), ReleaseNode(name="a", path="/opt/a")),
        environment={"COOKIE": "${COOKIE}"},
    )
    query = NodeQuery(settings=settings, application="shop", namespace="shop-prod")
    found = await ActivityEnvironment().run(NodeActivities(environment={}).find_nodes, query)
    assert [(t.node.name, t.node.path, t.release) for t in found] == [
        ("b", "/srv/shop", "shop"),
        ("a", "/opt/a", "shop"),
    ]
    assert all(t.environment == {"COOKIE": "${COOKIE}"} for t in found)  # the value stays on the worker
