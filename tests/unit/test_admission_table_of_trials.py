# SPDX-License-Identifier: Apache-2.0
"""Every rule of trialTemplate and metricsCollectorSpec: the second half of test_admission_table."""

from __future__ import annotations

import pytest
from refusals import COLLECTOR, DECLARED, Case, case, collector, declared, ids, judged
from written import CONTAINER, JOB, POD, REMOVED, TEMPLATE

CASES = [
    # ---- trialTemplate
    case("spec.trialTemplate: must be given: the job that every trial runs", (TEMPLATE, REMOVED)),
    case(
        "spec.trialTemplate.primaryContainerName: must be given: the container whose "
        "output holds the metrics",
        ((*TEMPLATE, "primaryContainerName"), ""),
    ),
    case(
        "spec.trialTemplate.primaryContainerName: 'mian' is none of the containers in the "
        "template's spec.template.spec; there are: main (did you mean main?)",
        ((*TEMPLATE, "primaryContainerName"), "mian"),
    ),
    case(
        "spec.trialTemplate.successCondition: cannot be read as a condition: GJSON path "
        "'status.conditions.#(', character 19: the query #( is never closed",
        ((*TEMPLATE, "successCondition"), "status.conditions.#("),
    ),
    case(
        "spec.trialTemplate.failureCondition: must be given: nothing is known about this "
        "kind of job (known kinds are: Job, PyTorchJob, TFJob, XGBoostJob, MPIJob, "
        "TrainJob)",
        ((*JOB, "kind"), "Dance"),
        ((*TEMPLATE, "successCondition"), "a"),
    ),
    case(
        "spec.trialTemplate.successCondition: must be given: nothing is known about this "
        "kind of job (known kinds are: Job, PyTorchJob, TFJob, XGBoostJob, MPIJob, "
        "TrainJob)",
        ((*JOB, "kind"), "Dance"),
        ((*TEMPLATE, "failureCondition"), "a"),
    ),
    case(
        "spec.trialTemplate.trialParameters: must be given (write [] when the template has none)",
        (DECLARED, REMOVED),
        ((*CONTAINER, "args"), []),
    ),
    case(
        "spec.trialTemplate.trialSpec: must be given: the job that every trial runs, as an object",
        (JOB, REMOVED),
    ),
    case(
        "spec.trialTemplate.configMap: cannot be given beside trialSpec (remove one)",
        (
            (*TEMPLATE, "configMap"),
            {"configMapName": "a", "configMapNamespace": "b", "templatePath": "c"},
        ),
    ),
    case(
        "spec.trialTemplate.configMap.configMapName: must be given",
        (JOB, REMOVED),
        ((*TEMPLATE, "configMap"), {"configMapNamespace": "b", "templatePath": "c"}),
        ((*TEMPLATE, "successCondition"), "a"),
        ((*TEMPLATE, "failureCondition"), "a"),
    ),
    case(
        (
            "spec.trialTemplate.trialParameters[0].name: must be given",
            "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[0]: "
            "${trialParameters.lr} is not declared in trialParameters (declared are: layers, "
            "width, optimizer)",
        ),
        declared(name=""),
    ),
    case(
        "spec.trialTemplate.trialParameters[0].reference: must be given: the name of a "
        "search parameter",
        declared(reference=""),
    ),
    case(
        (
            "spec.trialTemplate.trialParameters[0].name: 'l{r}' holds a brace",
            "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[0]: "
            "${trialParameters.lr} is not declared in trialParameters (declared are: l{r}, "
            "layers, width, optimizer)",
        ),
        declared(name="l{r}"),
    ),
    case(
        "spec.trialTemplate.trialParameters[4].name: 'lr' is already the name of trial parameter 0",
        ((*DECLARED, 4), {"name": "lr", "reference": "${trialSpec.Name}"}),
    ),
    case(
        "spec.trialTemplate.trialParameters[4].reference: 'lr' is already the reference of "
        "trial parameter 0",
        ((*DECLARED, 4), {"name": "x", "reference": "lr"}),
        ((*CONTAINER, "args", 4), "${trialParameters.x}"),
    ),
    case(
        "spec.trialTemplate.trialParameters[0].reference: 'learning' is no search "
        "parameter; there are: lr, layers, width, optimizer",
        declared(reference="learning"),
    ),
    case(
        "spec.trialTemplate.trialParameters[0].reference: ${trialSpec.Uid} is not known; "
        "known are Name, Namespace, Kind, APIVersion, Labels[key] and Annotations[key]",
        declared(reference="${trialSpec.Uid}"),
    ),
    case(
        "spec.trialTemplate.trialParameters[0].reference: ${trialSpec.Labels} needs a key, "
        "such as ${trialSpec.Labels[app]}",
        declared(reference="${trialSpec.Labels}"),
    ),
    case(
        "spec.trialTemplate.trialParameters[0].reference: the template has no annotation 'a/b'",
        declared(reference="${trialSpec.Annotations[a/b]}"),
    ),
    case(
        "spec.trialTemplate.trialParameters[4].name: ${trialParameters.x} does not occur "
        "in trialSpec (use it there, or remove it here)",
        ((*DECLARED, 4), {"name": "x", "reference": "${trialSpec.Name}"}),
    ),
    case(
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[4]: "
        "${trialParameters.layer} is not declared in trialParameters (did you mean layers?)",
        ((*CONTAINER, "args", 4), "${trialParameters.layer}"),
    ),
    case(
        "spec.trialTemplate.trialSpec.metadata.name: is set for each trial; remove it from "
        "the template",
        ((*JOB, "metadata"), {"name": "a"}),
    ),
    case(
        "spec.trialTemplate.trialSpec.metadata.namespace: is set for each trial; remove it "
        "from the template",
        ((*JOB, "metadata"), {"namespace": "a"}),
    ),
    case(
        "spec.trialTemplate.trialSpec.apiVersion: must be given as text",
        ((*JOB, "apiVersion"), REMOVED),
    ),
    case(
        "spec.trialTemplate.trialSpec.kind: must be given as text",
        ((*JOB, "kind"), REMOVED),
        ((*TEMPLATE, "successCondition"), "a"),
        ((*TEMPLATE, "failureCondition"), "a"),
    ),
    case("spec.trialTemplate.trialSpec: must be a mapping, this is 'text'", (JOB, "text")),
    case(
        (
            "spec.trialTemplate.trialSpec.spec.template: must be given as a mapping",
            "spec.trialTemplate.trialParameters[0].name: ${trialParameters.lr} does not occur "
            "in trialSpec (use it there, or remove it here)",
            "spec.trialTemplate.trialParameters[1].name: ${trialParameters.layers} does not "
            "occur in trialSpec (use it there, or remove it here)",
            "spec.trialTemplate.trialParameters[2].name: ${trialParameters.width} does not "
            "occur in trialSpec (use it there, or remove it here)",
            "spec.trialTemplate.trialParameters[3].name: ${trialParameters.optimizer} does not "
            "occur in trialSpec (use it there, or remove it here)",
        ),
        ((*JOB, "spec", "template"), REMOVED),
    ),
    case(
        "spec.trialTemplate.trialSpec.spec.backoffLimits: is not a field of a Job's spec: "
        "Kubernetes would drop it (did you mean backoffLimit?)",
        ((*JOB, "spec", "backoffLimits"), 1),
    ),
    case(
        "spec.trialTemplate.trialSpec.spec.backoffLimit: must be a whole number, this is '1'",
        ((*JOB, "spec", "backoffLimit"), "1"),
    ),
    case(
        "spec.trialTemplate.trialSpec.spec.template.spec.restartPolcy: is not a field of a "
        "pod: Kubernetes would drop it (did you mean restartPolicy?)",
        ((*POD, "restartPolcy"), "Never"),
    ),
    case(
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].comand: is not a "
        "field of a container: Kubernetes would drop it (did you mean command?)",
        ((*CONTAINER, "comand"), []),
    ),
    case(
        (
            "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[0]: must be "
            "text, this is 0.5 (put it in quotes)",
            "spec.trialTemplate.trialParameters[0].name: ${trialParameters.lr} does not occur "
            "in trialSpec (use it there, or remove it here)",
        ),
        ((*CONTAINER, "args", 0), 0.5),
    ),
    case(
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[4]: must be "
        "text, this is 0.5 (put it in quotes)",
        ((*CONTAINER, "args", 4), 0.5),
    ),
    case(
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].env[0].value: must "
        "be text, this is 7 (put it in quotes)",
        ((*CONTAINER, "env"), [{"name": "SEED", "value": 7}]),
    ),
    # ---- metricsCollectorSpec: filters are checked for every kind
    case(
        "spec.metricsCollectorSpec.collector.kind: 'Stdout' is no collector; there are: "
        "StdOut, File, TensorFlowEvent, PrometheusMetric, Custom, Push (did you mean "
        "StdOut?)",
        collector("Stdout"),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.kind: must be File, not 'Directory'",
        collector("File", fileSystemPath={"kind": "Directory"}),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.path: must be an absolute path, "
        "this is 'a.log'",
        collector("File", fileSystemPath={"path": "a.log"}),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.format: must be TEXT or JSON, not 'XML'",
        collector("File", fileSystemPath={"format": "XML"}),
    ),
    case(
        "spec.metricsCollectorSpec.source.filter.metricsFormat: is for TEXT; in JSON a "
        "metric is a field (remove it)",
        collector("File", fileSystemPath={"format": "JSON"}, filter={"metricsFormat": ["(a)=(b)"]}),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.kind: must be Directory, not 'File'",
        collector("TensorFlowEvent", fileSystemPath={"kind": "File"}),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.path: must be an absolute path, "
        "this is 'events'",
        collector("TensorFlowEvent", fileSystemPath={"path": "events"}),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.format: is for File; event files "
        "have only one (remove it)",
        collector("TensorFlowEvent", fileSystemPath={"format": "TEXT"}),
    ),
    case(
        "spec.metricsCollectorSpec.source.httpGet.port: must be a port from 1 to 65535, "
        "this is 'http'",
        collector("PrometheusMetric", httpGet={"port": "http"}),
    ),
    case(
        "spec.metricsCollectorSpec.source.httpGet.port: must be a port from 1 to 65535, this is -1",
        collector("PrometheusMetric", httpGet={"port": -1}),
    ),
    case(
        "spec.metricsCollectorSpec.source.httpGet.path: must begin with '/', this is 'metrics'",
        collector("PrometheusMetric", httpGet={"path": "metrics"}),
    ),
    case(
        "spec.metricsCollectorSpec.collector.customCollector: must be given for Custom",
        collector("Custom"),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.path: must be an absolute path, "
        "this is 'a'",
        (
            COLLECTOR,
            {
                "collector": {"kind": "Custom", "customCollector": {}},
                "source": {"fileSystemPath": {"path": "a", "kind": "File"}},
            },
        ),
    ),
    case(
        "spec.metricsCollectorSpec.source.fileSystemPath.kind: must be File or Directory, "
        "not 'Socket'",
        (
            COLLECTOR,
            {
                "collector": {"kind": "Custom", "customCollector": {}},
                "source": {"fileSystemPath": {"path": "/a", "kind": "Socket"}},
            },
        ),
    ),
    case(
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]: '(a' is no RE2 regular "
        "expression: missing ): (a (for example ([\\w-]+)\\s*=\\s*([0-9.]+))",
        collector("StdOut", filter={"metricsFormat": ["(a"]}),
    ),
    case(
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]: '(a)=b' must have two "
        "groups in parentheses, for the metric's name and for its value; it has 1 (for "
        "example ([\\w-]+)\\s*=\\s*([0-9.]+))",
        collector("Push", filter={"metricsFormat": ["(a)=b"]}),
    ),
    case(
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]: '(?=a)(b)(c)' is no RE2 "
        "regular expression: invalid perl operator: (?= (for example "
        "([\\w-]+)\\s*=\\s*([0-9.]+))",
        collector("File", filter={"metricsFormat": ["(?=a)(b)(c)"]}),
    ),
    case(
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]: 'a=b' must have two "
        "groups in parentheses, for the metric's name and for its value; it has 0 (for "
        "example ([\\w-]+)\\s*=\\s*([0-9.]+))",
        collector("TensorFlowEvent", filter={"metricsFormat": ["a=b"]}),
    ),
    case(
        "spec.metricsCollectorSpec.collector.kind: 'TensorFlowEvent' does not run on one "
        "machine in this release; StdOut, File, Push do (print metrics as name=value, "
        "write them to a file, or call tunesmith.report())",
        collector("TensorFlowEvent"),
    ),
    case(
        "spec.metricsCollectorSpec.collector.kind: 'PrometheusMetric' does not run on one "
        "machine in this release; StdOut, File, Push do (print metrics as name=value, "
        "write them to a file, or call tunesmith.report())",
        collector("PrometheusMetric"),
    ),
    case(
        "spec.metricsCollectorSpec.collector.kind: 'Custom' does not run on one machine in "
        "this release; StdOut, File, Push do (print metrics as name=value, write them to a "
        "file, or call tunesmith.report())",
        (COLLECTOR, {"collector": {"kind": "Custom", "customCollector": {}}}),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_a_broken_rule_is_told_with_its_place_and_nothing_else_is(case: Case) -> None:
    assert judged(case) == list(case.told)
