"""Gates stop what may not go on, and let nothing pass that was not measured."""

from tests.workflows.conftest import Shop


async def test_a_failed_gate_ends_the_deployment_with_its_numbers(shop: Shop) -> None:
    shop.world.builds.measured[shop.name] = {"coverage": 71.5}
    ended = await shop.deployed("1.0.0")
    assert [str(t.state) for t in ended.history][-2:] == ["Testing", "Failed"]
    assert ended.reason == "gate test: coverage is 71.5, wanted >= 80%"
    assert {g.name: str(g.outcome) for g in ended.gates}["test"] == "failed"


async def test_a_build_that_does_not_compile_never_reaches_the_tests(shop: Shop) -> None:
    shop.world.builds.measured[shop.name] = {"errors": 2}
    ended = await shop.deployed("1.0.0")
    assert [str(t.state) for t in ended.history][-2:] == ["Building", "Failed"]
    assert ended.reason == "gate compile: errors is 2, wanted == 0"


async def test_a_gate_that_warns_goes_on_and_says_so(shop: Shop) -> None:
    shop.world.builds.measured[shop.name] = {"regression": 23.0}
    ended = await shop.deployed("1.0.0")
    assert ended.state == "Completed"
    assert {g.name: str(g.outcome) for g in ended.gates}["performance"] == "warned"


async def test_skipping_tests_needs_a_reason_and_is_audited(shop: Shop) -> None:
    shop.world.builds.measured[shop.name] = {"coverage": 0.0}
    handle = await shop.start("1.0.0", skip_tests="true", reason="production is down, INC-7")
    await shop.approve(handle)
    ended = await shop.ended(handle)
    assert ended.state == "Completed"
    assert {str(g.outcome) for g in ended.gates if g.name != "compile"} == {"skipped"}
    skipped = [e for e in shop.audit(handle.id) if e.event_type == "gate.skipped"]
    assert {e.details["gate"] for e in skipped} == {"test", "security", "performance"}
    assert all("INC-7" in e.reason for e in skipped)


async def test_where_the_checklist_is_only_reported_every_gap_is_shown(shop: Shop) -> None:
    # The application of these tests measures one item of the checklist; qa reports, and does not enforce.
    ended = await shop.deployed("1.0.0", "qa")
    assert ended.state == "Completed"
    assert ended.compliance is not None
    assert [i.item for i in ended.compliance.items if i.passed] == ["license_compliance"]
    assert len(ended.compliance.items) == 18
