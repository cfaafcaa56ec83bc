"""``erlmcp-deploy deploy``: start, wait, and say how it ended."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from domain.deployment import DeploymentState, DeploymentStatus
from sandbox.processes import free_port
from sandbox.temporal import TemporalServer
from starters.finding import read_status
from tests.starters.conftest import Eventually
from tests.starters.world import BOB, CommandLine, World, connect, workers

CARL = "carl@example.com"


async def test_a_deployment_is_seen_through_to_completed(cli: CommandLine, world: World) -> None:
    # when somebody deploys and waits
    answer = await cli("deploy", "dev", "1.0.0", "--wait")

    # then every state is told in order, and the exit code is that of Completed
    assert answer.exit_code == 0, answer.output
    told = [line.split(" ", 1)[1] for line in answer.stdout.splitlines() if line[:1].isdigit()]
    states = [words.partition(":")[0] for words in told if not words.startswith(("gate", "waiting"))]
    assert states == [str(s) for s in DeploymentState if s not in ("RollingBack", "Failed", "Rejected")]
    assert "gate compile passed: errors 0" in answer.stdout
    assert world.cluster.version(f"{cli.application}-dev") == "1.0.0"


async def test_json_is_one_document_and_progress_goes_to_stderr(cli: CommandLine, world: World) -> None:
    answer = await cli("deploy", "--environment", "dev", "--version", "1.0.0", "--wait", "--json")

    document = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert document["deployment_id"] == cli.id_of("deployment", "dev", "1.0.0")
    assert document["started"] is True
    assert document["workflow_url"].startswith("http://temporal.example.com/namespaces/default/workflows/")
    assert DeploymentStatus.model_validate(document["status"]).state is DeploymentState.COMPLETED
    assert "Verifying" in answer.stderr


async def test_asking_twice_is_asking_once(cli: CommandLine, world: World, client: Client) -> None:
    # given a deployment that waits for its approval
    first = json.loads((await cli("deploy", "production", "1.0.0", "--json")).stdout)

    # when it is asked for again
    again = await cli("deploy", "production", "1.0.0", "--json")
    in_words = await cli("deploy", "production", "1.0.0")

    # then the running one is found
    assert again.exit_code == 0
    assert json.loads(again.stdout) == first | {"started": False}
    assert "runs already" in in_words.stdout
    described = await client.get_workflow_handle(first["deployment_id"]).describe()
    assert described.run_id == first["run_id"]
    assert await described.static_summary() == f"{cli.application} 1.0.0 → production"


async def test_a_failed_gate_ends_with_exit_code_1(cli: CommandLine, world: World) -> None:
    world.builds.measured[cli.application] = {"errors": 3}

    answer = await cli("deploy", "dev", "1.0.0", "--wait")

    assert answer.exit_code == 1
    assert f"Failed {cli.application} 1.0.0 → dev: gate compile: errors is 3, wanted == 0" in answer.stdout


async def test_a_rejection_ends_with_exit_code_3(cli: CommandLine, world: World) -> None:
    # given a deployment whose rejection came before its gate opened
    await cli("deploy", "production", "1.0.0", "--actor", CARL)
    await cli("reject", "production", "1.0.0", "--comment", "not on a Friday")

    # when somebody asks for it and waits
    answer = await cli("deploy", "production", "1.0.0", "--wait", "--json")

    assert answer.exit_code == 3
    document = json.loads(answer.stdout)
    assert document["started"] is False
    assert document["status"]["reason"] == "rejected by ada@example.com: not on a Friday"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dev", "3.0"], "version is '3.0': '3.0' is no semantic version; write for example 3.0.0"),
        (["dev", "v3.0.0"], "version is 'v3.0.0': 'v3.0.0' is no semantic version; write 3.0.0"),
        (["dev"], "version is missing"),
        ([], "environment is missing"),
        (["dev", "1.0.0", "--version", "1.0.1"], "version is given twice: '1.0.0' and '1.0.1'"),
        (["dev", "1.0.0", "--commit", "main"], "commit is 'main'"),
        (["dev", "1.0.0", "--follow-cancel"], "--follow-cancel is given without --wait"),
        (["dev", "1.0.0", "--skip-tests"], "reason is missing: skipping tests is audited"),
        (["Dev_1", "1.0.0"], "environment is 'Dev_1'"),
        (["moon", "1.0.0"], "environment is 'moon': deployment.yaml has none of that name"),
        (["dev", "1.0.0", "-a", "bakery"], "application is 'bakery': deployment.yaml has none of that name"),
        (["dev", "1.0.0", "--actor", " "], "actor is ' '"),
        (["dev", "1.0.0", "--colour", "red"], "No such option: --colour"),
    ],
)
async def test_invalid_input_is_refused_before_the_server_is_asked(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    # given that no server would answer
    cli = CommandLine("127.0.0.1:1", "shop", tmp_path)

    answer = await cli("deploy", *arguments)
    as_json = await cli("deploy", *arguments, "--json")

    assert answer.exit_code == as_json.exit_code == 2
    assert said in answer.stderr
    assert answer.stdout == ""
    error = json.loads(as_json.stdout)["error"]
    assert said in error["message"]
    assert error["exit_code"] == 2


async def test_names_that_only_the_worker_can_judge_are_invalid_input_too(
    cli: CommandLine, world: World, tmp_path: Path
) -> None:
    # given a person without deployment.yaml
    elsewhere = {"ERLMCP_DEPLOY_CONFIG": str(tmp_path / "none.yaml")}
    names = ("-a", cli.application)

    answer = await cli("deploy", "moon", "1.0.0", "--wait", *names, **elsewhere)
    nameless = await cli("deploy", "dev", "1.0.0", **elsewhere)

    assert answer.exit_code == 2
    assert "environment 'moon' is not in deployment.yaml" in answer.stderr
    assert nameless.exit_code == 2
    assert "application is missing" in nameless.stderr
    assert "there is no such file" in nameless.stderr


async def test_the_actor_comes_from_the_environment_or_from_git(
    cli: CommandLine, world: World, tmp_path: Path
) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\temail = gita@example.com\n")
    nobody = {"ERLMCP_DEPLOY_ACTOR": None, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}

    by_ci = await cli("deploy", "dev", "1.0.0", "--wait", "--json", **nobody, GITHUB_ACTOR="octocat")
    gita = nobody | {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig")}
    by_git = await cli("deploy", "dev", "1.0.1", "--wait", "--json", **gita)
    by_nobody = await cli("deploy", "dev", "1.0.2", **nobody)

    assert json.loads(by_ci.stdout)["status"]["actor"] == "octocat"
    assert json.loads(by_git.stdout)["status"]["actor"] == "gita@example.com"
    assert by_nobody.exit_code == 2
    assert "give --actor you@example.com" in by_nobody.stderr


async def test_an_unreachable_server_is_named_with_the_remedy(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    cli = CommandLine(address, "shop", tmp_path)

    process = await cli.start("deploy", "dev", "1.0.0", "--json")
    out, err = await process.communicate()

    assert process.returncode == 1
    assert json.loads(out)["error"]["message"] == (
        f"the Temporal server at {address} does not answer: connection refused"
    )
    assert b"correct TEMPORAL_ADDRESS" in err
    assert b"Traceback" not in err


async def test_ctrl_c_leaves_the_deployment_running_and_says_how_to_come_back(
    cli: CommandLine, world: World, client: Client
) -> None:
    # given somebody who waits for a deployment that waits for its approval
    process = await cli.start("deploy", "production", "1.0.0", "--wait")
    assert process.stdout is not None
    while b"Approval" not in (line := await process.stdout.readline()):
        assert line, "it ended before it waited for approval"

    # when the person presses Ctrl-C
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    # then only the waiting ends
    assert process.returncode == 130
    assert f"erlmcp-deploy watch production 1.0.0 -a {cli.application}" in err.decode()
    described = await client.get_workflow_handle(cli.id_of("deployment", "production", "1.0.0")).describe()
    assert described.status is WorkflowExecutionStatus.RUNNING


async def test_with_follow_cancel_a_cancelled_job_aborts_the_deployment(
    cli: CommandLine, world: World
) -> None:
    # given a deployment that is being watched in production
    world.monitoring.held.add(f"{cli.application}: monitoring of 1.0.0")
    process = await cli.start("deploy", "dev", "1.0.0", "--wait", "--follow-cancel")
    assert process.stdout is not None
    while b"Monitoring" not in (line := await process.stdout.readline()):
        assert line, "it ended before it was watched"

    # when the CI system ends the job
    process.terminate()
    out, err = await process.communicate()

    # then the deployment is undone before the job ends
    assert process.returncode == 1, err
    assert "the deployment is being aborted" in err.decode()
    assert "RollingBack" in out.decode()
    assert world.cluster.version(f"{cli.application}-dev") is None


async def test_waiting_survives_the_server_and_the_worker_being_away(
    tmp_path: Path, eventually: Eventually
) -> None:
    # given a deployment that waits for approval, and somebody who waits for it
    async with TemporalServer.start(tmp_path / "temporal", ui=False) as server:
        cli = CommandLine(server.address, "shop", tmp_path)
        client = await connect(server.address)
        async with workers(client, tmp_path):
            process = await cli.start("deploy", "production", "1.0.0", "--wait")
            assert process.stdout is not None
            while b"waiting for approval" not in (line := await process.stdout.readline()):
                assert line, "it ended before it waited for approval"
        # when the worker is gone, and then the server is killed
        while b"no worker answers" not in (line := await process.stdout.readline()):
            assert line, "it gave up when the worker was gone"
        await server.kill()
        while b"the Temporal server does not answer" not in (line := await process.stdout.readline()):
            assert line, "it gave up when the server was gone"
        await server.restart()
        # and both come back, and it is approved
        client = await connect(server.address)
        async with workers(client, tmp_path):
            for person in ("eve@example.com", BOB):

                async def approved(person: str = person) -> bool:
                    return (await cli("approve", "production", "1.0.0", "--actor", person)).exit_code == 0

                await eventually(approved)
            out, err = await process.communicate()

        # then the waiting went on to the end
        assert process.returncode == 0, err
        assert b"Completed shop 1.0.0" in out
        final = await read_status(client, "deployment:shop:production:1.0.0", DeploymentStatus)
        assert final is not None
        assert final.state is DeploymentState.COMPLETED


async def test_a_github_job_gets_annotations_outputs_groups_and_a_summary(
    cli: CommandLine, world: World, tmp_path: Path
) -> None:
    # given a job whose deployment will break in monitoring
    world.monitoring.failing[f"{cli.application}: monitoring of 1.0.0"] = "error_rate is 9%, limit 5%"
    job = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }

    answer = await cli("deploy", "dev", "1.0.0", "--wait", **job)

    # then the job fails with an annotation that says why
    assert answer.exit_code == 1
    title = f"title={cli.application} 1.0.0 → dev%3A Failed"
    assert f"::error {title}::error_rate is 9%25, limit 5%25" in answer.stderr
    # and its log is folded by state
    assert answer.stderr.index("::group::Monitoring") < answer.stderr.index("::group::RollingBack")
    assert answer.stderr.count("::group::") == answer.stderr.count("::endgroup::")
    # and the next steps can read the outcome
    outputs = (tmp_path / "output").read_text()
    assert "\nFailed\n" in outputs.split("state<<")[1]
    assert cli.id_of("deployment", "dev", "1.0.0") in outputs.split("deployment_id<<")[1]
    # and the summary shows the stages
    summary = (tmp_path / "summary").read_text()
    assert f"### ❌ {cli.application} 1.0.0 → dev: Failed" in summary
    assert "| RollingBack |" in summary
    assert "| compile | ✅ passed | errors 0 |" in summary


async def test_a_github_job_that_waits_for_people_asks_for_them(cli: CommandLine, world: World) -> None:
    # given a job that waits for a deployment to production
    job = await cli.start("deploy", "production", "1.0.0", "--wait", "--actor", CARL, GITHUB_ACTIONS="true")
    assert job.stderr is not None

    # when the gate opens
    while not (line := (await job.stderr.readline()).decode()).startswith("::notice title=Approval needed"):
        assert line, "the job ended without asking for approval"

    # then the job's page says who must do what, and a rejection fails the job
    assert f"change_board: erlmcp-deploy approve production 1.0.0 -a {cli.application}" in line
    assert (
        await cli("reject", "production", "1.0.0", "--comment", "100% no\n::error::forged")
    ).exit_code == 0
    _, err = await job.communicate()
    assert job.returncode == 3
    commands = [line for line in err.decode().splitlines() if line.startswith("::error")]
    assert commands == [
        f"::error title={cli.application} 1.0.0 → production%3A Rejected"
        "::rejected by ada@example.com: 100%25 no ::error::forged"
    ]
