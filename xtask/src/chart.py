"""Checks the Helm chart, and prints it as plain manifests. Run by `cargo xtask chart`.

Arguments: the chart's folder, the alerts that it must have, then one JSON object of values after the other, each a way to install it. Every one is
linted, rendered, and held against the schemas of the Kubernetes versions below. What the first one renders is printed.
"""

import json
import sys

import kubernetes_validate
import yaml
from helm_python import chart

VERSIONS = ["1.30", "1.34", "1.37"]
# Of the Prometheus operator, of which there is no schema here.
UNKNOWN = {"ServiceMonitor", "PrometheusRule"}


def main() -> int:
    folder, alerts, *cases = sys.argv[1:]
    with open(alerts, encoding="utf-8") as file:
        groups = yaml.safe_load(file)["groups"]
    alerting = 0
    faults = []
    loaded = chart.Chart.load(folder)
    for number, case in enumerate(cases):
        values = json.loads(case)
        report = chart.lint(folder, values, strict=True)
        faults += [f"{case}: lint: {error}" for error in report["errors"]]
        faults += [f"{case}: lint: {m['path']}: {m['error']}" for m in report["messages"] if m["severity"] >= 2]
        rendered = loaded.render(values, name="monitor", namespace="monitor", revision=1)
        notes = [text for name, text in rendered.items() if name.endswith("NOTES.txt")]
        if not any("monitor status" in text for text in notes):
            faults.append(f"{case}: the notes do not say what to do next: {notes}")
        manifests = sorted((name, text) for name, text in rendered.items() if not name.endswith("NOTES.txt"))
        texts = [text.strip() for _, text in manifests if text.strip()]
        objects = [o for text in texts for o in yaml.safe_load_all(text) if o]
        if not objects:
            faults.append(f"{case}: renders nothing")
        for each in objects:
            if each["kind"] == "PrometheusRule":
                alerting += 1
                if each["spec"]["groups"] != groups:
                    faults.append(f"{case}: the alerts are not those of {alerts}")
            if each["kind"] in UNKNOWN:
                continue
            for version in VERSIONS:
                name = f"{case}: {each['kind']} {each['metadata']['name']}, Kubernetes {version}"
                try:
                    used = kubernetes_validate.validate(each, version, strict=True)
                except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                    faults.append(f"{name}: {error}")
                else:
                    if not str(used).startswith(version):
                        faults.append(f"{name}: the schema of {used} was taken")
        if number == 0:
            print("\n---\n".join(texts))
    if not alerting:
        faults.append("no way to install it has alerts")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
