# SPDX-License-Identifier: Apache-2.0
"""The suggestion service as a real process: killed, asked in both protocols, and told to stop."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from service_processes import (
    DEADLINE_S,
    IMPATIENT,
    Service,
    assert_nobody_answers,
    service_at,
    start,
)

from tunesmith_api.problem import Problem, history_digest
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as katib_pb
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.core import SuggestionCore
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.katib_messages import experiment_message, trial_messages
from tunesmith_suggestion.messages import message_digest, outcome_message, problem_message
from tunesmith_suggestion.testing import SPACE, a_history, a_problem

pytestmark = pytest.mark.integration

PROBLEM = a_problem("tpe")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Private, and short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ts-") as name:
        yield Path(name)


def suggest_request(told: int, *, problem: Problem = PROBLEM, base: str = "") -> pb.SuggestRequest:
    outcomes = [outcome_message(SPACE, o) for o in a_history(SPACE, told).outcomes]
    return pb.SuggestRequest(
        problem=problem_message(problem),
        first_ordinal=told,
        count=2,
        history=pb.History(
            base_digest=base,
            outcomes=outcomes,
            digest=history_digest(message_digest(message) for message in outcomes),
        ),
    )


def katib_request(told: int, problem: Problem = PROBLEM) -> katib_pb.GetSuggestionsRequest:
    return katib_pb.GetSuggestionsRequest(
        experiment=experiment_message(problem, problem.settings),
        trials=trial_messages(problem, a_history(SPACE, told)),
        current_request_number=2,
        total_request_number=told + 2,
    )


def as_bytes(message: pb.SuggestReply | katib_pb.GetSuggestionsReply) -> bytes:
    return message.SerializeToString(deterministic=True)


def refusal(service: Service, name: str, method: str, request: object) -> tuple[str, str]:
    """Code and words of a call that must fail."""
    with pytest.raises(grpc.RpcError) as refused:
        service.call(name, method, request)
    return refused.value.code().name, refused.value.details()


def test_a_service_killed_between_calls_gives_the_bytes_of_an_undisturbed_one(
    folder: Path,
) -> None:
    requests = [suggest_request(told) for told in (0, 12, 24)]
    undisturbed = SuggestionCore()
    want = [as_bytes(undisturbed.suggest(request)) for request in requests]
    got = []
    for request in requests:
        with service_at(folder / "s.sock") as service:
            got.append(as_bytes(service.call(wire.SUGGESTIONS, "Suggest", request)))
            service.process.send_signal(signal.SIGKILL)
            service.process.wait(DEADLINE_S)
    assert got == want


def test_katibs_protocol_gives_the_same_after_a_restart(folder: Path) -> None:
    want = as_bytes(KatibCore().suggest(katib_request(15)))
    for _ in range(2):
        with service_at(folder / "s.sock") as service:
            reply = service.call(wire.KATIB_SUGGESTION, "GetSuggestions", katib_request(15))
            assert as_bytes(reply) == want


def test_fifty_thousand_trials_in_one_of_katibs_requests_are_taken(folder: Path) -> None:
    few = katib_request(500)
    whole = katib_request(0)
    for _ in range(100):
        whole.trials.extend(few.trials)
    assert len(whole.trials) == 50_000
    with service_at(folder / "s.sock") as service:
        reply = service.call(wire.KATIB_SUGGESTION, "GetSuggestions", whole)
    assert len(reply.parameter_assignments) == 2


def test_the_service_says_what_it_cannot_do(folder: Path) -> None:
    bad = a_problem("tpe", settings={"gamma": "2"})
    sentence = "setting 'gamma' is '2'; it must be a number > 0 and < 1"
    with service_at(folder / "s.sock", "--max-message-bytes", "20000") as service:
        lost = service.call(wire.SUGGESTIONS, "Suggest", suggest_request(3, base="ab" * 32))
        assert lost.history_lost
        request = pb.ValidateRequest(problem=problem_message(bad))
        assert list(service.call(wire.SUGGESTIONS, "Validate", request).problems) == [sentence]
        invalid = ("INVALID_ARGUMENT", sentence)
        refused = suggest_request(0, problem=bad)
        assert refusal(service, wire.SUGGESTIONS, "Suggest", refused) == invalid
        katib = katib_request(0, bad)
        assert refusal(service, wire.KATIB_SUGGESTION, "GetSuggestions", katib) == invalid
        validate = katib_pb.ValidateAlgorithmSettingsRequest(experiment=katib.experiment)
        method = "ValidateAlgorithmSettings"
        assert refusal(service, wire.KATIB_SUGGESTION, method, validate) == invalid
        code, _ = refusal(service, wire.SUGGESTIONS, "Suggest", suggest_request(400))
        assert code == "RESOURCE_EXHAUSTED"


def test_health_is_known_under_our_names_and_katibs(folder: Path) -> None:
    with service_at(folder / "s.sock") as service:
        for name in ("", wire.SUGGESTIONS, wire.KATIB_SUGGESTION, "manager.v1beta1.Suggestion"):
            assert service.health(name) == "SERVING"
        assert service.health("another.Service") == "NOT_FOUND"


def test_the_socket_is_its_owners_alone(folder: Path) -> None:
    path = folder / "private" / "s.sock"
    with service_at(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_idle_service_stops_at_once_on_sigterm(folder: Path) -> None:
    with service_at(folder / "s.sock") as service:
        service.process.terminate()
        assert service.process.wait(4.0) == 0


def test_sigterm_ends_a_service_whose_algorithm_is_still_computing(folder: Path) -> None:
    script = """
        import sys, threading
        from tunesmith_api.problem import Exhausted
        from tunesmith_suggestion.registry import Registry
        from tunesmith_suggestion.server import ServerOptions, run_server

        class Endless:
            name, version, settings = "endless", "1", ()
            def validate(self, problem):
                return []
            def suggest(self, problem, history, ordinals, recorded):
                print("computing", flush=True)
                threading.Event().wait()

        sys.exit(run_server(ServerOptions(sys.argv[1]), Registry({"endless": Endless})))
    """
    target = f"unix:{folder}/s.sock"
    command = [sys.executable, "-c", textwrap.dedent(script), target]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        grpc.insecure_channel(target, options=IMPATIENT) as channel,
    ):
        try:
            call = wire.call(channel, wire.SUGGESTIONS, "Suggest").future(
                suggest_request(0, problem=a_problem("endless")), wait_for_ready=True
            )
            assert process.stdout is not None and process.stdout.readline() == b"computing\n"
            began = time.monotonic()
            process.terminate()
            assert process.wait(8.0) == 0
            assert time.monotonic() - began < 4.0
            assert call.exception(DEADLINE_S) is not None
        finally:
            process.kill()


def test_the_service_ends_when_its_parents_end_of_the_pipe_closes(folder: Path) -> None:
    with service_at(folder / "s.sock", "--exit-with-parent") as service:
        assert service.process.stdin is not None
        service.process.stdin.close()
        service.process.stdin = None
        assert service.process.wait(4.0) == 0


def test_the_service_ends_when_its_parent_is_killed(folder: Path) -> None:
    script = (
        "import sys, service_processes as s\n"
        "from pathlib import Path\n"
        "with s.service_at(Path(sys.argv[1]), '--exit-with-parent') as service:\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    fakes = Path(__file__).parents[1] / "fakes"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "s.sock")],
        cwd=fakes,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
    parent.kill()
    parent.communicate()
    assert_nobody_answers(folder / "s.sock")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "127.0.0.1:0"], "would be plaintext: give --tls-cert and --tls-key"),
        (["--listen", "0.0.0.0:0", "--insecure"], "--insecure is for loopback addresses"),
        (["--listen", "127.0.0.1:0", "--tls-cert", "c"], "needs both --tls-cert and --tls-key"),
        (["--listen", "nowhere"], "'nowhere' is neither unix:/path nor host:port"),
        (["--listen", "unix:/tmp/open-to-all.sock"], "the folder /tmp is open to other users"),
        (["--listen", f"unix:/tmp/{'x' * 120}/s.sock"], "longer than 107 bytes"),
    ],
)
def test_addresses_that_would_be_open_or_cannot_be_are_refused(
    arguments: list[str], words: str
) -> None:
    process = start(*arguments)
    _, error = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert words in error.decode()


def test_a_second_service_does_not_take_the_socket_of_a_living_one(folder: Path) -> None:
    with service_at(folder / "s.sock") as service:
        second = start("--listen", f"unix:{folder}/s.sock")
        _, error = second.communicate(timeout=DEADLINE_S)
        assert second.returncode == 2
        assert "another service is listening" in error.decode()
        assert service.health() == "SERVING"


def listening_at(process: subprocess.Popen[bytes]) -> str:
    """The target that the service logs."""
    assert process.stderr is not None
    for line in process.stderr:
        if b"listening on " in line:
            return line.decode().rpartition("listening on ")[2].strip()
    raise AssertionError("the service ended")


def test_plaintext_on_loopback_works_when_asked_for() -> None:
    process = start("--listen", "localhost:0", "--insecure")
    try:
        with grpc.insecure_channel(listening_at(process)) as channel:
            assert Service(process, channel).health() == "SERVING"
    finally:
        process.kill()
        process.communicate()


def test_tcp_with_a_certificate_is_encrypted(folder: Path) -> None:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-subj /CN=localhost -addext subjectAltName=DNS:localhost "
        f"-keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    process = start(
        "--listen", "localhost:0", "--tls-key", str(key), "--tls-cert", str(certificate)
    )
    try:
        target = listening_at(process)
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(target, trusted) as channel:
            assert Service(process, channel).health() == "SERVING"
        with grpc.insecure_channel(target) as plain, pytest.raises(grpc.RpcError):
            wire.call(plain, wire.SUGGESTIONS, "Validate")(pb.ValidateRequest(), timeout=5)
    finally:
        process.kill()
        process.communicate()
