"""`gateway endpoint`: what it prints for people and for programs, and how it ends when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.provisioning import requests
from tests.plans import IMAGE, a_plan
from tests.shell import QUESTION, Shell
from tests.standin import HOST, NEVER, PROJECT, Refused, StandIn, start_standin

DEPLOY = ("endpoint", "deploy", "--image", IMAGE)
ENDPOINT = "projects/4711/locations/us-central1/endpoints/1003"
SETTINGS = f"GATEWAY_MUSICGEN_ENDPOINT={ENDPOINT}\nGATEWAY_MUSICGEN_HOST={HOST}\n"


@pytest.fixture
def google() -> Iterator[StandIn]:
    with start_standin() as standin:
        yield standin


@pytest.fixture
def environment(google: StandIn) -> dict[str, str]:
    return {
        "GATEWAY_VERTEX_URL": google.url,
        "GATEWAY_GOOGLE_AUTH": "anonymous",
        "GATEWAY_PROJECT": PROJECT,
        "GATEWAY_MUSICGEN_LICENCE": "cc-by-nc-4.0",
    }


class Console:
    """The command line of somebody whose settings lead to the stand-in."""

    def __init__(self, shell: Shell, environment: dict[str, str]) -> None:
        self.shell = shell
        self.environment = environment

    def run(self, *words: str, answer: str | None = None, **environment: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        result = self.shell.run(*words, answer=answer, **{**self.environment, **environment})
        return result.exit_code, result.stdout, result.stderr

    def json(self, *words: str) -> Any:
        code, printed, said = self.run(*words, "--json")
        assert code == 0, said
        return json.loads(printed)


@pytest.fixture
def console(shell: Shell, environment: dict[str, str]) -> Console:
    return Console(shell, environment)


# Deploying


def test_deploying_says_its_cost_its_steps_and_what_to_set(google: StandIn, console: Console) -> None:
    code, printed, said = console.run(*DEPLOY, "--yes")
    assert code == 0
    assert printed.endswith("\n" + SETTINGS)
    for words in ("Endpoint:         projects/4711", "serving", "dedicated", "1 x NVIDIA_L4", "100 %"):
        assert words in printed
    cost, *steps = said.splitlines()
    assert cost.startswith(
        "1 x g2-standard-8 with 1 x NVIDIA_L4 costs money by the hour, called or not, until"
    )
    assert [line.split()[0] for line in steps] == ["Uploading", "Creating", "Deploying"]
    assert google.changes == ["UploadModel", "CreateEndpoint", "DeployModel"]


def test_every_option_reaches_google(google: StandIn, console: Console) -> None:
    code, printed, said = console.run(
        *("endpoint", "deploy", "--yes", "--name", "studio", "--shared", "--image", IMAGE),
        *("--weights", "gs://acme-weights/musicgen", "--output", "gs://acme-music/out"),
        *(
            "--machine-type",
            "a2-highgpu-2g",
            "--accelerator",
            "NVIDIA_TESLA_A100",
            "--accelerator-count",
            "2",
        ),
        *("--min-replicas", "2", "--max-replicas", "5"),
        *("--service-account", "music@acme-music.iam.gserviceaccount.com"),
    )
    assert code == 0, said
    plan = a_plan(
        name="studio", dedicated=False, inference_timeout_s=60, weights_uri="gs://acme-weights/musicgen",
        output_uri="gs://acme-music/out", machine_type="a2-highgpu-2g", accelerator="NVIDIA_TESLA_A100",
        accelerator_count=2, min_replicas=2, max_replicas=5,
        service_account="music@acme-music.iam.gserviceaccount.com",
    )  # fmt: skip
    (model,) = google.models
    deployment = requests.deploy_model(plan, ENDPOINT, model)
    assert [body for _method, body in google.calls] == [
        requests.upload_model(plan).body,
        requests.create_endpoint(plan).body,
        deployment.body,
    ]
    assert said.startswith("2 to 5 x a2-highgpu-2g with 2 x NVIDIA_TESLA_A100 costs")
    assert printed.endswith(f"\n\nGATEWAY_MUSICGEN_ENDPOINT={ENDPOINT}\n")


def test_nothing_is_deployed_without_a_yes(google: StandIn, console: Console) -> None:
    code, printed, said = console.run(*DEPLOY, answer="n\n")
    assert (code, printed) == (3, "")
    assert f"Deploy {IMAGE} as musicgen in projects/acme-music/locations/us-central1?{QUESTION}" in said
    assert google.changes == []
    assert console.run(*DEPLOY, answer="y\n")[0] == 0


def test_what_is_deployed_already_needs_no_question(google: StandIn, console: Console) -> None:
    console.run(*DEPLOY, "--yes")
    code, printed, said = console.run(*DEPLOY)
    assert (code, said) == (0, "It is deployed already, just so.\n")
    assert printed.endswith(SETTINGS)
    assert len(google.changes) == 3


def test_what_is_replaced_is_named_before(console: Console) -> None:
    before = console.json(*DEPLOY, "--yes")["deployed"][0]["name"]
    said = console.run("endpoint", "deploy", "--image", IMAGE.replace(":1", ":2"), answer="n\n")[2]
    assert f"It replaces {before}; both run, and cost, until it is up." in said


def test_a_dry_run_prints_the_calls_and_makes_none(google: StandIn, console: Console) -> None:
    code, printed, said = console.run(*DEPLOY, "--dry-run", GATEWAY_VERTEX_URL="http://127.0.0.1:1")
    assert (code, said) == (0, "")
    calls = json.loads(printed)
    assert calls == [call.rendered() for call in requests.all_of(a_plan())]
    assert [call["method"] for call in calls] == [
        "ModelService.UploadModel",
        "EndpointService.CreateEndpoint",
        "EndpointService.DeployModel",
    ]
    assert calls[0]["http"] == "POST /v1/projects/acme-music/locations/us-central1/models:upload"
    assert console.json(*DEPLOY, "--dry-run") == calls
    assert google.changes == []


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_without_a_word_on_the_licence_nothing_is_deployed(
    google: StandIn, console: Console, more: tuple[str, ...]
) -> None:
    code, printed, said = console.run(*DEPLOY, "--yes", *more, GATEWAY_MUSICGEN_LICENCE="")
    assert (code, printed) == (2, "")
    assert said.startswith("error: The published MusicGen weights are licensed CC-BY-NC 4.0")
    assert "GATEWAY_MUSICGEN_LICENCE=cc-by-nc-4.0" in said
    assert google.changes == []


def test_a_licence_that_nobody_knows_is_a_wrong_setting(console: Console) -> None:
    code, _printed, said = console.run(*DEPLOY, GATEWAY_MUSICGEN_LICENCE="mit")
    assert code == 2
    assert said.startswith("GATEWAY_MUSICGEN_LICENCE: Input should be")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["deploy"], "Missing option '--image'"),
        (["deploy", "--image", "us-docker.pkg.dev/a/b/c:1"], "error: --image: us-docker.pkg.dev is multi"),
        ([*DEPLOY[1:], "--location", "europe-west4"], "error: --image: it is in us-central1"),
        ([*DEPLOY[1:], "--accelerator", "TPU"], "Invalid value for '--accelerator'"),
        ([*DEPLOY[1:], "--min-replicas", "0"], "Invalid value for '--min-replicas'"),
        (
            [*DEPLOY[1:], "--shared", "--inference-timeout-s", "90"],
            "error: --inference-timeout-s: on a shared",
        ),
        ([*DEPLOY[1:], "--name", "My model"], "error: --name: 'My model' is not a name"),
        ([*DEPLOY[1:], "--project", "a/b"], "error: --project: 'a/b' is not a project"),
        (["describe", "7"], "error: ENDPOINT: '7' is not projects/"),
        (["undeploy", "--location", "global"], "error: --location: 'global' is not a region"),
    ],
)
def test_wrong_usage_is_told_before_google_is_asked(
    google: StandIn, console: Console, words: list[str], complaint: str
) -> None:
    code, printed, said = console.run("endpoint", *words)
    assert (code, printed) == (2, "")
    assert complaint in said
    assert google.changes == []


def test_without_a_project_one_is_asked_for(console: Console) -> None:
    code, _printed, said = console.run("endpoint", "describe", GATEWAY_PROJECT="")
    assert code == 2
    assert said == "error: --project: name the Google Cloud project, here or with GATEWAY_PROJECT.\n"


def test_a_refusal_by_google_says_what_to_do_and_what_there_is(google: StandIn, console: Console) -> None:
    google.failures["DeployModel"] = Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "No L4 left.")
    code, printed, said = console.run(*DEPLOY, "--yes")
    (model,) = google.models
    assert (code, printed) == (1, "")
    assert said.splitlines()[-6:-1] == [
        "By now there is:",
        f"  model {model}",
        f"  endpoint {ENDPOINT}",
        "The same command goes on from here.",
        f"To take it away: gateway endpoint undeploy {ENDPOINT} --delete",
    ]
    assert said.splitlines()[-1].startswith("error: Google has no room for it: ask for more quota")
    assert said.endswith("(RESOURCE_EXHAUSTED: No L4 left.)\n")


def test_another_project_is_refused_in_one_line(console: Console) -> None:
    code, _printed, said = console.run("endpoint", "describe", "--project", "somebody-elses")
    assert code == 1
    assert said.count("\n") == 1
    assert said.startswith("error: Google does not allow it: the account that runs this needs roles/")


# Showing


def test_an_endpoint_is_shown_for_programs(console: Console) -> None:
    made = console.json(*DEPLOY, "--yes")
    assert console.json("endpoint", "describe") == made
    assert console.json("endpoint", "describe", ENDPOINT) == made
    assert made["state"] == "serving"
    assert (made["dedicated"], made["host"], made["inference_timeout_s"]) == (True, HOST, 600)
    assert made["settings"] == dict(line.split("=") for line in SETTINGS.splitlines())
    (deployed,) = made["deployed"]
    assert (deployed["accelerator"], deployed["min_replicas"], deployed["ready"]) == ("NVIDIA_L4", 1, 1)


def test_what_google_does_not_say_is_left_out_for_people(google: StandIn, console: Console) -> None:
    bare = {"name": ENDPOINT, "displayName": "theirs", "deployedModels": [{"id": "5", "model": "m"}]}
    google.endpoints[ENDPOINT] = bare
    code, printed, said = console.run("endpoint", "describe", ENDPOINT)
    assert (code, said) == (0, "")
    assert "Host:" not in printed
    assert "A call may take:" not in printed
    assert printed.endswith(f"\nGATEWAY_MUSICGEN_ENDPOINT={ENDPOINT}\n")


def test_an_endpoint_that_is_not_there_is_said_to_be_none(console: Console) -> None:
    code, printed, said = console.run("endpoint", "describe", "--name", "studio")
    assert (code, printed) == (1, "")
    assert said.startswith(
        "error: There is no endpoint 'studio' made by `gateway endpoint deploy` in projects/"
    )
    assert console.run("endpoint", "describe", ENDPOINT)[0] == 1


# Undeploying


def test_undeploying_asks_and_then_ends_the_cost(google: StandIn, console: Console) -> None:
    name = console.json(*DEPLOY, "--yes")["deployed"][0]["name"]
    code, printed, said = console.run("endpoint", "undeploy", answer="n\n")
    assert (code, printed) == (3, "")
    assert said.startswith(
        f"musicgen ({ENDPOINT}) has {name} deployed; calls fail once it is undeployed. Do it?"
    )
    code, printed, _said = console.run("endpoint", "undeploy", answer="y\n")
    assert (code, printed) == (0, f"Nothing is deployed on {ENDPOINT} any more.\n")
    assert google.endpoints[ENDPOINT]["deployedModels"] == []
    state = console.run("endpoint", "describe")[1]
    assert "State:            empty" in state
    assert "GPU" not in state


def test_deleting_is_asked_for_by_its_name(google: StandIn, console: Console) -> None:
    console.run(*DEPLOY, "--yes")
    (model,) = google.models
    assert "are deleted for good" in console.run("endpoint", "undeploy", "--delete", answer="n\n")[2]
    code, printed, _said = console.run("endpoint", "undeploy", ENDPOINT, "--delete", "--yes")
    assert code == 0
    assert printed.splitlines()[1:] == [f"Deleted {ENDPOINT}.", f"Deleted {model}."]
    assert (google.endpoints, google.models) == ({}, {})


def test_undeploying_tells_programs_what_it_took_away(google: StandIn, console: Console) -> None:
    made = console.json(*DEPLOY, "--yes")
    (model,) = google.models
    assert console.json("endpoint", "undeploy", "--delete", "--yes") == {
        "endpoint": ENDPOINT,
        "undeployed": [made["deployed"][0]["id"]],
        "deleted": [ENDPOINT, model],
    }


def test_what_others_made_is_not_taken_down(google: StandIn, console: Console) -> None:
    google.endpoints[ENDPOINT] = {"name": ENDPOINT, "displayName": "theirs", "deployedModels": [{"id": "5"}]}
    code, _printed, said = console.run("endpoint", "undeploy", ENDPOINT, "--delete", "--yes")
    assert code == 2
    assert "was not made by `gateway endpoint deploy`" in said
    assert google.changes == []


# As a process


def test_control_c_leaves_word_of_what_there_is_and_how_to_go_on(
    google: StandIn, console: Console, environment: dict[str, str], tmp_path: Path
) -> None:
    waiting = threading.Event()

    def on_call(method: str) -> None:
        google.looks = NEVER if method == "DeployModel" else 0
        if method == "GetOperation":
            waiting.set()

    google.on_call = on_call
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", *DEPLOY, "--yes"],
        env={**os.environ, **environment, "GATEWAY_DATA_DIR": str(tmp_path)},  # noqa: TID251 - handed on
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert waiting.wait(60)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (1, "")
    assert "\nStopped.\nBy now there is:\n  model projects/4711/" in said
    assert f"  operation {ENDPOINT}/operations/" in said
    assert "The operation goes on at Google, and what it deploys costs money.\n" in said
    google.finish_all()
    assert console.run(*DEPLOY)[0] == 0


_WITHOUT_THE_EXTRA = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "grpc" or name.startswith(("google.cloud.", "google.api_core")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from click.testing import CliRunner
import gateway.cli.serve, gateway.cli.server, gateway.web.app
from gateway.cli.main import main
for words in WORDS:
    result = CliRunner().invoke(main, words, prog_name="gateway")
    print(result.exit_code, repr(result.stderr))
"""


def test_only_what_asks_google_needs_googles_client(environment: dict[str, str], tmp_path: Path) -> None:
    words = [
        *(["--help"], ["serve", "--help"], ["endpoint", "--help"], ["endpoint", "deploy", "--help"]),
        [*DEPLOY, "--dry-run"],
        [*DEPLOY, "--yes"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_THE_EXTRA.replace("WORDS", repr(words))],
        env={**os.environ, **environment, "GATEWAY_DATA_DIR": str(tmp_path)},  # noqa: TID251 - handed on
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    *fine, refused = done.stdout.splitlines()
    assert fine == ["0 ''"] * 5
    assert refused.startswith("2 ")
    assert "pip install 'gateway[endpoint]'" in refused


def test_the_server_loads_nothing_of_googles_client() -> None:
    program = (
        "import sys, gateway.cli.serve, gateway.cli.server, gateway.web.app, gateway.bootstrap.services\n"
        "print([name for name in sys.modules if name.startswith(('google.cloud.', 'google.api', 'grpc'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
