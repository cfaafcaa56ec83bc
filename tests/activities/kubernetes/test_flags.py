"""Feature flags in a ConfigMap: shares, the kill switch, and everybody else's changes beside them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import INVALID_CONFIGURATION, NOT_FOUND, REFUSED
from activities.kubernetes import ClusterConnection
from activities.kubernetes.flags import FLAGS, FlagActivities
from domain.feature_flags import FlagChange, FlagReading, FlagRollout, flag_in, share_of
from sandbox.kubernetes.access import ClusterAccess
from tests.activities.kubernetes.workload import Onlooker, encoded, run

SEARCH = FlagRollout(flag="new-search")
RULES = {"if": [{"in": ["@example.com", {"var": "email"}]}, "on"]}
DOCUMENT = """{
  "flags": {
    "banner": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
    "new-search": {
      "state": "ENABLED",
      "variants": {"on": true, "off": false},
      "defaultVariant": "off"
    }
  }
}
"""


@dataclass
class FlagStore:
    """The ConfigMap as another client sees it."""

    onlooker: Onlooker
    namespace: str

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps"

    async def create(self, document: str = DOCUMENT, **fields: Any) -> None:
        body = {"metadata": {"name": "feature-flags"}, "data": {"flags.json": document}, **fields}
        await self.onlooker.ask("POST", self.path, body)

    async def read(self) -> Any:
        return await self.onlooker.ask("GET", f"{self.path}/feature-flags")

    async def document(self) -> str:
        document: str = (await self.read())["data"]["flags.json"]
        return document

    async def write(self, document: str) -> None:
        await self.onlooker.ask(
            "PATCH",
            f"{self.path}/feature-flags",
            {"data": {"flags.json": document}},
            content_type="application/merge-patch+json",
        )

    async def notes(self) -> Any:
        return json.loads((await self.read())["metadata"]["annotations"][FLAGS])

    def change(self, percentage: int, key: str | None = None, **rollout: Any) -> FlagChange:
        return FlagChange(
            key=key or f"run/flag-new-search-{percentage}",
            namespace=self.namespace,
            rollout=SEARCH.model_copy(update=rollout),
            percentage=percentage,
            deployment_id="deployment:erlmcp:test:1.1.0",
        )


async def at(second: int, flags: FlagActivities, change: FlagChange) -> FlagReading:
    """Run a change that the Temporal server has scheduled at this second."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, scheduled_time=datetime.fromtimestamp(second, UTC))
    return await environment.run(flags.set_flag, change)


@pytest.fixture
async def flags(cluster: ClusterAccess) -> AsyncIterator[FlagActivities]:
    working = FlagActivities(ClusterConnection(kube_config=encoded(cluster)))
    yield working
    await working.close()


@pytest.fixture
def store(onlooker: Onlooker, namespace: str) -> FlagStore:
    return FlagStore(onlooker, namespace)


async def test_a_flag_is_opened_step_by_step_and_closed_for_everybody(
    flags: FlagActivities, store: FlagStore
) -> None:
    # given a flag that is off, beside another
    await store.create()

    # when it is opened
    for percentage in (10, 50, 100):
        reading = await run(flags.set_flag, store.change(percentage))

        # then each step is read back from the cluster
        assert reading == FlagReading(flag="new-search", exists=True, percentage=percentage, state="ENABLED")
        assert share_of(flag_in(await store.document(), "new-search"), SEARCH) == percentage

    # and when it is killed, the document is to the letter what it was, and says who did it beside it
    killed = await run(flags.set_flag, store.change(0))
    assert (killed.percentage, killed.state) == (0, "ENABLED")
    assert await store.document() == DOCUMENT
    assert await store.notes() == {
        "flags.json/new-search": {
            "key": "run/flag-new-search-0",
            "deployment_id": "deployment:erlmcp:test:1.1.0",
            "scheduled_at": "1970-01-01T00:00:00Z",
        }
    }


async def test_the_same_key_changes_a_flag_once(flags: FlagActivities, store: FlagStore) -> None:
    # given a step that was set, and a person who has closed the flag since
    await store.create()
    await run(flags.set_flag, store.change(10))
    await store.write(DOCUMENT)

    # when the activity is tried again
    again = await run(flags.set_flag, store.change(10))

    # then the person's word stays, and the reading says so
    assert again.percentage == 0
    assert await store.document() == DOCUMENT


async def test_a_kill_switch_kills_again_under_the_same_key(flags: FlagActivities, store: FlagStore) -> None:
    # given a flag that was killed, and something that has opened it since
    await store.create()
    await run(flags.set_flag, store.change(0))
    await store.write(DOCUMENT.replace('"defaultVariant": "off"', '"defaultVariant": "on"'))

    assert (await run(flags.set_flag, store.change(0))).percentage == 0
    assert await store.document() == DOCUMENT


async def test_a_worker_that_wakes_up_late_undoes_no_kill_switch(
    flags: FlagActivities, store: FlagStore
) -> None:
    # given a step that was asked for first, a kill switch, and another of before that comes late
    await store.create()
    await at(2, flags, store.change(0))
    await at(0, flags, store.change(0, key="another/flag-new-search-off"))

    # when the worker of the step gets to it, then it is refused, and the flag stays off
    with pytest.raises(ApplicationError, match="was switched meanwhile") as refused:
        await at(1, flags, store.change(50))
    assert refused.value.type == REFUSED
    assert await store.document() == DOCUMENT

    # but what is asked for after the kill switch is done
    assert (await at(3, flags, store.change(50, key="next/flag-new-search-50"))).percentage == 50


async def test_a_roll_out_takes_the_flag_from_nobody_who_has_it(
    flags: FlagActivities, store: FlagStore
) -> None:
    # given a flag that an earlier release has opened for all
    await store.create()
    await run(flags.set_flag, store.change(100, key="earlier"))

    # when the next release rolls it out by steps of its own
    for percentage in (10, 100):
        reading = await run(flags.set_flag, store.change(percentage))

        # then nobody loses it
        assert (reading.percentage, reading.kept) == (100, True)
        assert reading.note == "open to 100% before, which stays"
    assert share_of(flag_in(await store.document(), "new-search"), SEARCH) == 100


async def test_a_roll_back_does_not_close_what_an_earlier_release_has_opened(
    flags: FlagActivities, store: FlagStore
) -> None:
    # given a flag that an earlier release has opened to everybody
    await store.create()
    await run(flags.set_flag, store.change(100))
    # when another deployment is rolled back
    other = store.change(0, key="other/off").model_copy(
        update={"deployment_id": "deployment:erlmcp:production:9.9.9", "own_only": True}
    )
    left = await run(flags.set_flag, other)
    # then the flag stays; its own roll-back closes it
    assert (left.percentage, left.kept) == (100, True)
    own = await run(flags.set_flag, store.change(0, key="own/off").model_copy(update={"own_only": True}))
    assert (own.percentage, own.kept) == (0, False)


async def test_rules_of_people_stop_a_roll_out_but_no_kill_switch(
    flags: FlagActivities, store: FlagStore
) -> None:
    # given a flag with targeting that somebody has thought about
    document = json.loads(DOCUMENT)
    document["flags"]["new-search"]["targeting"] = RULES
    await store.create(json.dumps(document, indent=2))

    # when it is rolled out, then that is refused with the remedy
    with pytest.raises(ApplicationError, match="targeting rules of its own") as refused:
        await run(flags.set_flag, store.change(10))
    assert refused.value.type == INVALID_CONFIGURATION
    assert refused.value.non_retryable
    assert json.loads(await store.document()) == document

    # and when it is killed, it is off for everybody, and the rules are kept to be put back
    reading = await run(flags.set_flag, store.change(0))
    assert (reading.percentage, FLAGS in reading.note) == (0, True)
    assert "targeting" not in flag_in(await store.document(), "new-search")
    assert (await store.notes())["flags.json/new-search"]["former"] == RULES


@pytest.mark.parametrize(
    ("there", "settings", "said"),
    [
        (False, {}, "no ConfigMap 'feature-flags'"),
        (True, {"document": "other.json"}, r"no key 'other.json', only \['flags.json'\]"),
        (True, {"flag": "gone"}, "no flag 'gone'"),
    ],
)
async def test_a_flag_that_is_not_there_is_an_error_to_open_and_nothing_to_close(
    flags: FlagActivities, store: FlagStore, there: bool, settings: dict[str, Any], said: str
) -> None:
    if there:
        await store.create()

    with pytest.raises(ApplicationError, match=said) as missing:
        await run(flags.set_flag, store.change(10, **settings))
    assert missing.value.type == NOT_FOUND

    killed = await run(flags.set_flag, store.change(0, **settings))
    assert (killed.exists, killed.percentage) == (False, 0)
    assert "nothing to switch off" in killed.note


async def test_changes_of_others_at_the_same_time_are_all_kept(
    flags: FlagActivities, store: FlagStore
) -> None:
    # given several flags in one document
    names = [f"flag-{n}" for n in range(4)]
    flag = {"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "off"}
    await store.create(json.dumps({"flags": dict.fromkeys(names, flag)}))

    # when all are changed at once
    changes = [store.change(10, key=f"run/{name}", flag=name) for name in names]
    readings = await asyncio.gather(*(run(flags.set_flag, change) for change in changes))

    # then no change is lost
    assert [reading.percentage for reading in readings] == [10] * 4
    document = await store.document()
    for change in changes:
        assert share_of(flag_in(document, change.rollout.flag), change.rollout) == 10
    assert len(await store.notes()) == 4


async def test_an_immutable_config_map_is_refused(flags: FlagActivities, store: FlagStore) -> None:
    await store.create(immutable=True)

    with pytest.raises(ApplicationError, match="immutable") as refused:
        await run(flags.set_flag, store.change(10))
    assert refused.value.type == REFUSED


async def test_a_kill_switch_does_not_pass_over_a_document_it_cannot_read(
    flags: FlagActivities, store: FlagStore
) -> None:
    await store.create("flags: {}")  # YAML: whether a flag in it is on cannot be told

    with pytest.raises(ApplicationError, match="no JSON") as unreadable:
        await run(flags.set_flag, store.change(0))
    assert unreadable.value.type == INVALID_CONFIGURATION
