# SPDX-License-Identifier: Apache-2.0
"""Trial templates that are kept in a ConfigMap: what is read, rendered, filled in and refused."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import written
import yaml
from written import SPEC, TEMPLATE, bent

from tunesmith_api.problems import space_of
from tunesmith_api.resources import Experiment
from tunesmith_api.template import TemplateError, render
from tunesmith_controller.admission.local import Refused, admit

SOURCE = {"configMapName": "jobs", "configMapNamespace": "team", "templatePath": "job.yaml"}
FIELD = "spec.trialTemplate.configMap"
JOB = written.experiment()["spec"]["trialTemplate"]["trialSpec"]
VALUES = {"lr": "0.05", "layers": "3", "width": "32", "optimizer": "adam"}


def experiment(**template: Any) -> written.Json:
    given = written.experiment()
    del given["spec"]["trialTemplate"]["trialSpec"]
    return bent(
        TEMPLATE, {**given["spec"]["trialTemplate"], "configMap": SOURCE, **template}, given
    )


def config_map(text: Any, key: str = "job.yaml") -> written.Json:
    metadata = {"name": "jobs", "namespace": "team"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}}


def admitted(stored: written.Json | None, given: written.Json | None = None) -> written.Json:
    def found(namespace: str, name: str) -> written.Json | None:
        return stored if (namespace, name) == ("team", "jobs") else None

    return admit(given or experiment(), config_map=found)


def told(stored: written.Json | None, given: written.Json | None = None) -> list[str]:
    with pytest.raises(Refused) as raised:
        admitted(stored, given)
    return [str(error) for error in raised.value.errors]


def job(**changes: Any) -> str:
    return yaml.safe_dump({**JOB, **changes})


# ---- read and rendered --------------------------------------------------------------------------


def test_the_job_of_a_config_map_gets_the_defaults_of_its_kind() -> None:
    """Katib does not look inside, and wants the conditions written by hand."""
    inline = admit(written.experiment())["spec"]["trialTemplate"]
    stored = admitted(config_map(job()))["spec"]["trialTemplate"]

    for key in ("successCondition", "failureCondition"):
        assert stored[key] == inline[key]
    assert stored["configMap"] == SOURCE
    assert "trialSpec" not in stored


def test_a_job_that_is_not_looked_at_needs_its_conditions_written() -> None:
    with pytest.raises(Refused, match="nothing is known about this kind of job"):
        admit(experiment())

    conditions = {"successCondition": "a", "failureCondition": "b"}
    assert admit(experiment(**conditions))["spec"]["trialTemplate"]["configMap"] == SOURCE


def rendered(text: str) -> written.Json:
    stored = config_map(text)
    parsed = Experiment.parse(admitted(stored))
    return render(parsed, VALUES, space_of(parsed), name="quick-1", config_map=stored)


def test_a_trial_of_a_config_map_runs_what_the_inline_template_runs() -> None:
    parsed = Experiment.parse(admit(written.experiment()))

    assert rendered(job()) == render(parsed, VALUES, space_of(parsed), name="quick-1")


BRACES = """\
apiVersion: batch/v1
kind: Job
metadata: {labels: {lr: "${trialParameters.lr}"}}  # of ${trialParameters.lr}
spec:
  backoffLimit: ${trialParameters.layers}
  template:
    spec:
      containers:
        - name: main
          args: [--lr=${trialParameters.lr}, --o, ${trialParameters.optimizer}]
          command:
            - sh
            - -c
            - |
              python a.py \\
                --width ${trialParameters.width}
"""


def test_placeholders_stand_wherever_katib_allows_them() -> None:
    """Katib replaces before it reads: plain, in quotes, in blocks, and between brackets, where
    YAML itself would stop at a brace."""
    found = rendered(BRACES)
    (container,) = found["spec"]["template"]["spec"]["containers"]

    assert found["metadata"]["labels"] == {"lr": "0.05"}
    assert found["spec"]["backoffLimit"] == 3
    assert container["args"] == ["--lr=0.05", "--o", "adam"]
    assert container["command"][2] == "python a.py \\\n  --width 32\n"


@pytest.mark.parametrize(
    "value", ['x"], "image": "evil', "a: b\nimage: evil", "${trialParameters.lr}"]
)
def test_a_value_changes_no_other_field_of_the_text(value: str) -> None:
    given = experiment()
    bent((*SPEC, "parameters", 3, "feasibleSpace"), {"list": [value, "b"]}, given)
    stored = config_map(job())
    parsed = Experiment.parse(admitted(stored, given))

    found = render(
        parsed, {**VALUES, "optimizer": value}, space_of(parsed), name="q", config_map=stored
    )

    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["args"][3] == f"--optimizer={value}"
    assert container["image"] == "python:3.11"


def test_metadata_of_the_stored_job_may_be_referred_to() -> None:
    declared = [*written.experiment()["spec"]["trialTemplate"]["trialParameters"]]
    declared[0] = {"name": "lr", "reference": "${trialSpec.Labels[app]}"}
    given = experiment(trialParameters=declared)

    assert admitted(config_map(job(metadata={"labels": {"app": "a"}})), given)
    assert told(config_map(job()), given) == [
        "spec.trialTemplate.trialParameters[0].reference: the template has no label 'app'"
    ]


def test_without_its_config_map_a_trial_cannot_be_rendered() -> None:
    parsed = Experiment.parse(admitted(config_map(job())))

    with pytest.raises(TemplateError, match="ConfigMap team/jobs does not exist"):
        render(parsed, VALUES, space_of(parsed), name="quick-1")


# ---- refused ------------------------------------------------------------------------------------

PLACE = f"{FIELD}.templatePath: 'job.yaml' of ConfigMap team/jobs"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [}", f"{PLACE} cannot be read as YAML (line 1)"),
        ("a: 1\na: 2", f"{PLACE} cannot be read as YAML (line 2)"),
        ("a: !!python/object/apply:os.system [a]", f"{PLACE} cannot be read as YAML (line 1)"),
        ("", f"{PLACE} holds 0 YAML documents; a template is one object"),
        ("a: 1\n---\nb: 1", f"{PLACE} holds 2 YAML documents; a template is one object"),
        ("password", f"{PLACE} is no object; a template begins with apiVersion and kind"),
        ("a: .nan", f"{PLACE} is no JSON: a must be a finite number, this is nan"),
        ("a: \ue000", f"{PLACE} holds the private character U+E000"),
    ],
)
def test_what_is_no_template_is_refused_without_showing_it(text: str, sentence: str) -> None:
    assert told(config_map(text)) == [sentence]


def test_a_template_that_fits_in_no_trial_is_refused() -> None:
    (only,) = told(config_map(f"a: {'x' * 200_000}"))

    assert only.startswith(f"{PLACE} has 200008 bytes as JSON; at most 196608 are possible")


def test_a_config_map_or_key_that_is_not_there_is_named() -> None:
    assert told(None) == [
        f"{FIELD}.configMapName: ConfigMap team/jobs does not exist "
        "(create it, or put it in the Experiment's file, behind a line `---`)"
    ]
    assert told(config_map(job(), key="other.yaml")) == [
        f"{FIELD}.templatePath: ConfigMap team/jobs has no key 'job.yaml'; its keys are: other.yaml"
    ]
    assert told({"kind": "ConfigMap"})[0].endswith("its keys are: none")


@pytest.mark.parametrize("missing", ["configMapName", "configMapNamespace", "templatePath"])
def test_all_three_fields_must_be_given(missing: str) -> None:
    source = {**SOURCE, missing: ""}
    given = experiment(configMap=source, successCondition="a", failureCondition="b")

    assert told(config_map(job()), given) == [f"{FIELD}.{missing}: must be given"]


IN_TEMPLATE = f"{FIELD}.templatePath: in the template, "


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"metadata": {"name": "a"}}, "metadata.name: is set for each trial; remove it from the"),
        ({"apiVersion": None}, "apiVersion: must be given as text"),
        ({"metadata": {"labels": {"a": "${trialParameters.layer}"}}}, "metadata.labels.a: ${tria"),
        ({"metadata": {"labels": {"${trialParameters.lr}": "a"}}}, "metadata.labels["),
        ({"spec": {**JOB["spec"], "backofLimit": 1}}, "spec.backofLimit: is not a field of a Job"),
    ],
)
def test_a_fault_of_the_stored_job_is_told_at_the_field_that_names_it(
    change: written.Json, sentence: str
) -> None:
    (only,) = told(config_map(job(**change)))

    assert only.startswith(IN_TEMPLATE + sentence)


def test_a_parameter_that_the_stored_job_does_not_use_is_told() -> None:
    text = job().replace("--lr=${trialParameters.lr}", "--lr=1")

    assert told(config_map(text)) == [
        "spec.trialTemplate.trialParameters[0].name: ${trialParameters.lr} does not occur in the "
        "ConfigMap's template (use it there, or remove it here)"
    ]


def test_a_kind_that_one_machine_cannot_run_is_told() -> None:
    text = textwrap.dedent(job(apiVersion="kubeflow.org/v1", kind="PyTorchJob"))

    (only,) = told(config_map(text))

    assert only.startswith(f"{FIELD}.templatePath: PyTorchJob of kubeflow.org/v1 does not run on")
