"""What must hold for everything that deploy/k8s renders to, whichever overlay and components made it.

    kubernetes_manifests.py --programs target/debug --schemas deploy/k8s/schemas \\
        --kubernetes 1.32 --planted TOKEN rendered.yaml...

Tells of every mistake, each with its file, and ends with 1 when there is one. `TOKEN` is the auth token that was put into
the Secret: it must be nowhere else.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

import jsonschema
import kubernetes_validate
import yaml

# Where each service is asked by its probes, and the program that knows its settings.
SERVICES = ("gateway", "audio-worker")
PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
# What a service takes at most after DRAIN_SECONDS, in seconds: the sum of the limits in its server.rs, rounded up.
FAREWELL_S = {"gateway": 25, "audio-worker": 10}
# Names of settings whose values are secrets; TLS_KEY is where one is.
SECRET = re.compile(r"TOKEN|SECRET|(?<!^TLS)_KEY\b")
# What each half must be allowed to be by its certificate.
USAGE = {"gateway": "client auth", "audio-worker": "server auth"}
# Files as a Secret of cert-manager has them, made when first needed.
EXAMPLE = {}
POD_SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


class Rendering:
    """One file, and what is wrong with it."""

    def __init__(self, path):
        self.name = path.stem
        self.text = path.read_text()
        self.resources = [resource for resource in yaml.safe_load_all(self.text) if resource]
        self.mistakes = []

    def of(self, kind, name=None):
        return [r for r in self.resources if r["kind"] == kind and name in (None, r["metadata"]["name"])]

    def wrong(self, resource, what):
        place = f"{resource['kind']} {resource['metadata']['name']}: " if resource else ""
        self.mistakes.append(f"{self.name}: {place}{what}")

    def expect(self, condition, resource, what):
        if not condition:
            self.wrong(resource, what)


def examine(rendering, options, settings):
    schemas(rendering, options)
    names(rendering)
    deployments = rendering.of("Deployment")
    rendering.expect({d["metadata"]["name"] for d in deployments} == set(SERVICES), None, "both Deployments, and no other")
    for deployment in deployments:
        pod(rendering, deployment)
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            confinement(rendering, deployment, container)
            probes(rendering, deployment, container)
            image(rendering, deployment, container)
            environment = settings_of(rendering, deployment, container)
            if deployment["metadata"]["name"] in settings:
                known(rendering, deployment, environment, settings[deployment["metadata"]["name"]])
                accepted(rendering, deployment, container, environment, options.programs)
            drain(rendering, deployment, container, environment)
            collector(rendering, deployment, environment)
            if deployment["metadata"]["name"] == "gateway":
                public(rendering, environment)
                workers(rendering, deployment, environment)
    for service in rendering.of("Service"):
        service_reaches_pods(rendering, service)
    for account in rendering.of("ServiceAccount"):
        rendering.expect(account.get("automountServiceAccountToken") is False, account, "has a token")
    autoscaling(rendering)
    disruption(rendering)
    network(rendering)
    monitoring(rendering)
    secrets(rendering, options.planted)


def schemas(rendering, options):
    for resource in rendering.resources:
        group, _, version = resource["apiVersion"].rpartition("/")
        if "." in group and not group.endswith(".k8s.io"):
            path = options.schemas / f"{resource['kind']}_{group}_{version}.json"
            if not path.exists():
                rendering.wrong(resource, f"there is no schema {path.name}")
                continue
            for error in jsonschema.Draft202012Validator(json.loads(path.read_text())).iter_errors(resource):
                rendering.wrong(resource, f"{'.'.join(map(str, error.absolute_path))}: {error.message}")
            continue
        for release in options.kubernetes:
            try:
                kubernetes_validate.validate(resource, release, strict=True)
            except kubernetes_validate.ValidationError as error:
                rendering.wrong(resource, f"Kubernetes {release}: {'.'.join(map(str, error.path))}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError as error:
                rendering.wrong(resource, f"Kubernetes {release}: {error}")


def names(rendering):
    seen = set()
    for resource in rendering.resources:
        namespace = resource["metadata"].get("namespace")
        rendering.expect(namespace or resource["kind"] == "Namespace", resource, "has no namespace")
        key = (resource["apiVersion"], resource["kind"], namespace, resource["metadata"]["name"])
        rendering.expect(key not in seen, resource, "is there twice")
        seen.add(key)
    spaces = {r["metadata"].get("namespace", r["metadata"]["name"]) for r in rendering.resources}
    rendering.expect(len(spaces) == 1, None, f"more than one namespace: {sorted(spaces)}")


def pod(rendering, deployment):
    spec = deployment["spec"]["template"]["spec"]
    context = spec.get("securityContext", {})
    for condition, what in (
        (context.get("runAsNonRoot") is True, "runAsNonRoot is not true"),
        (context.get("runAsUser", 0) > 0, "runs as root"),
        (context.get("seccompProfile", {}).get("type") == "RuntimeDefault", "seccompProfile is not RuntimeDefault"),
        (spec.get("automountServiceAccountToken") is False, "mounts a token"),
        (spec.get("enableServiceLinks") is False, "gets variables from Services"),
        (spec.get("serviceAccountName") == deployment["metadata"]["name"], "has no ServiceAccount of its own"),
        (not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")), "shares the host's namespaces"),
        (not any("hostPath" in volume for volume in spec.get("volumes", [])), "mounts the host's files"),
        (len(spec["containers"]) == 1 and not spec.get("initContainers"), "is more than one container"),
    ):
        rendering.expect(condition, deployment, what)
    keys = {constraint["topologyKey"] for constraint in spec.get("topologySpreadConstraints", [])}
    rendering.expect({"kubernetes.io/hostname", "topology.kubernetes.io/zone"} <= keys, deployment, "is not spread over nodes and zones")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in [deployment["spec"]["selector"]] + [c["labelSelector"] for c in spec.get("topologySpreadConstraints", [])]:
        rendering.expect(matches(selector, labels), deployment, f"{selector} does not select its own pods")
    rolling = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
    rendering.expect(rolling.get("maxUnavailable") == 0, deployment, "a rollout ends pods before others are there")


def confinement(rendering, deployment, container):
    context = container.get("securityContext", {})
    rendering.expect(context.get("readOnlyRootFilesystem") is True, deployment, "readOnlyRootFilesystem is not true")
    rendering.expect(context.get("allowPrivilegeEscalation") is False, deployment, "allowPrivilegeEscalation is not false")
    rendering.expect(context.get("capabilities") == {"drop": ["ALL"]}, deployment, "does not drop all capabilities")
    rendering.expect(not context.get("privileged"), deployment, "is privileged")
    resources = container.get("resources", {})
    for part, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        rendering.expect(name in resources.get(part, {}), deployment, f"{part} no {name}")


def probes(rendering, deployment, container):
    ports = {port["name"] for port in container["ports"]}
    for name, path in PROBES.items():
        asked = container.get(name, {}).get("httpGet", {})
        rendering.expect(asked.get("path") == path and asked.get("port") == "ops", deployment, f"{name} does not ask {path} on the port ops")
    rendering.expect("ops" in ports, deployment, "has no port ops")


def image(rendering, deployment, container):
    name, _, tag = container["image"].rpartition("/")[2].partition(":")
    fixed = "@sha256:" in container["image"] or re.match(r"v?\d+\.\d+\.\d+", tag)
    rendering.expect(fixed, deployment, f"the image {container['image']} may be any version")
    rendering.expect(name.partition("@")[0].endswith(deployment["metadata"]["name"]), deployment, f"runs {container['image']}")


def settings_of(rendering, deployment, container):
    """The environment that the container gets; what is not there is a mistake."""
    rendering.expect("env" not in container, deployment, "has variables beside its ConfigMap and Secret")
    environment = {}
    for source in container.get("envFrom", []):
        if next(iter(source.values())).get("optional"):
            # The operator's own, for those who need it.
            continue
        kind, name = ("ConfigMap", source["configMapRef"]["name"]) if "configMapRef" in source else ("Secret", source["secretRef"]["name"])
        found = rendering.of(kind, name)
        rendering.expect(len(found) == 1, deployment, f"there is no {kind} {name}")
        for resource in found:
            values = dict(resource.get("data", {}))
            if kind == "Secret":
                values = {key: base64.b64decode(value).decode() for key, value in values.items()} | resource.get("stringData", {})
            else:
                for key in values:
                    rendering.expect(not SECRET.search(key), resource, f"{key} belongs into the Secret")
            environment |= values
    return environment


def known(rendering, deployment, environment, settings):
    for name in environment:
        rendering.expect(name in settings, deployment, f"{name} is no setting of the {deployment['metadata']['name']}")


def accepted(rendering, deployment, container, environment, programs):
    """The program itself reads what it would be given, mounted files included."""
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"].get("volumes", [])}
    with tempfile.TemporaryDirectory() as folder:
        for mount in container.get("volumeMounts", []):
            path = pathlib.Path(folder, mount["mountPath"].lstrip("/"))
            path.mkdir(parents=True)
            volume = volumes[mount["name"]]
            if "secret" in volume:
                certificate(rendering, deployment, environment, volume["secret"]["secretName"], path)
            else:
                name = volume["configMap"]["name"]
                found = rendering.of("ConfigMap", name)
                rendering.expect(len(found) == 1, deployment, f"there is no ConfigMap {name}")
                for file, text in ((file, text) for resource in found for file, text in resource["data"].items()):
                    (path / file).write_text(text)
            inside = mount["mountPath"] + "/"
            environment = {
                key: f"{path}/{value.removeprefix(inside)}" if value.startswith(inside) else value for key, value in environment.items()
            }
        ran = subprocess.run(
            [programs / deployment["metadata"]["name"], "--check-config"],
            # In a folder without a file `.env`.
            env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )
    said = " ".join((ran.stdout + ran.stderr).split())
    rendering.expect(ran.returncode == 0, deployment, f"--check-config: {said}")


def certificate(rendering, deployment, environment, name, path):
    """A Secret that cert-manager makes: is it what the pair needs? Files as it would hold are put into `path`."""
    found = [c for c in rendering.of("Certificate") if c["spec"]["secretName"] == name]
    rendering.expect(len(found) == 1, deployment, f"there is no Certificate that makes the Secret {name}")
    service = deployment["metadata"]["name"]
    for resource in found:
        spec = resource["spec"]
        rendering.expect(USAGE[service] in spec.get("usages", []), resource, f"is not for {USAGE[service]}")
        if service == "audio-worker":
            hosts = {urllib.parse.urlsplit(c["data"]["WORKER_URL"]).hostname for c in rendering.of("ConfigMap") if "WORKER_URL" in c["data"]}
            rendering.expect(hosts <= set(spec.get("dnsNames", [])), resource, f"is not for {sorted(hosts)} (WORKER_URL)")
        issuers = rendering.of("Issuer", spec["issuerRef"]["name"])
        rendering.expect(len(issuers) == 1, resource, f"there is no Issuer {spec['issuerRef']['name']}")
        for issuer in issuers:
            authority = [c for c in rendering.of("Certificate") if c["spec"]["secretName"] == issuer["spec"].get("ca", {}).get("secretName")]
            rendering.expect(authority and all(c["spec"].get("isCA") for c in authority), issuer, "is of no authority in this namespace")
    for setting, file in (("TLS_CERT", "tls.crt"), ("TLS_KEY", "tls.key"), ("TLS_CA", "ca.crt")):
        rendering.expect(environment.get(setting, "").endswith(f"/{file}"), deployment, f"{setting} is not {file}")
    if not EXAMPLE:
        with tempfile.TemporaryDirectory() as folder:
            files = [os.path.join(folder, name) for name in ("key", "certificate")]
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=example",
                 "-days", "1", "-keyout", files[0], "-out", files[1]],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True,
            )
            key, own = (pathlib.Path(file).read_text() for file in files)
            EXAMPLE.update({"tls.key": key, "tls.crt": own, "ca.crt": own})
    for file, text in EXAMPLE.items():
        (path / file).write_text(text)


def drain(rendering, deployment, container, environment):
    command = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    if len(command) != 2 or command[0] != "sleep":
        rendering.wrong(deployment, "preStop does not wait until it is out of sight")
        return
    needed = int(command[1]) + int(environment.get("DRAIN_SECONDS", 30)) + FAREWELL_S[deployment["metadata"]["name"]]
    grace = deployment["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
    rendering.expect(grace >= needed, deployment, f"terminationGracePeriodSeconds is {grace}, preStop and the drain take {needed}")


def public(rendering, environment):
    """The name that Twilio calls is the one that the Ingress serves, with a certificate for it."""
    host = urllib.parse.urlsplit(environment.get("TWILIO_VOICE_WEBHOOK_URL", "")).hostname
    for ingress in rendering.of("Ingress"):
        certified = {name for tls in ingress["spec"].get("tls", []) for name in tls.get("hosts", []) if tls.get("secretName")}
        for rule in ingress["spec"]["rules"]:
            rendering.expect(rule.get("host") == host, ingress, f"serves {rule.get('host')}, TWILIO_VOICE_WEBHOOK_URL says {host}")
            rendering.expect(rule.get("host") in certified, ingress, f"has no certificate for {rule.get('host')}")
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                ports = {port["name"] for service in rendering.of("Service", backend["name"]) for port in service["spec"]["ports"]}
                rendering.expect(backend["port"].get("name") in ports, ingress, f"there is no Service {backend['name']} with that port")
                rendering.expect(backend["port"].get("name") != "ops", ingress, "shows the operations port to the world")


def workers(rendering, deployment, environment):
    url = urllib.parse.urlsplit(environment.get("WORKER_URL", ""))
    services = rendering.of("Service", url.hostname)
    rendering.expect(len(services) == 1, deployment, f"WORKER_URL: there is no Service {url.hostname}")
    for service in services:
        rendering.expect(service["spec"].get("clusterIP") == "None", service, "is not headless: the gateway would see one worker")
        rendering.expect(url.port in {port["port"] for port in service["spec"]["ports"]}, service, f"has no port {url.port} (WORKER_URL)")


def collector(rendering, deployment, environment):
    """Traces are sent where the NetworkPolicies let them: to the collector's namespace and port, found by its name."""
    url = urllib.parse.urlsplit(environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""))
    if not url.hostname:
        return
    policies = [p["spec"] for p in rendering.of("NetworkPolicy") if matches(p["spec"]["podSelector"], pod_labels(deployment))]
    rules = [rule for policy in policies for rule in policy.get("egress", [])]
    namespace = (url.hostname.split(".") + [""])[1]
    ways = {
        (port["port"], peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name"))
        for rule in rules for port in rule.get("ports", []) for peer in rule.get("to", [{}])
    }
    rendering.expect((url.port, namespace) in ways, deployment, f"no NetworkPolicy lets it out to {url.netloc} (OTEL_EXPORTER_OTLP_ENDPOINT)")
    rendering.expect((53, None) in ways, deployment, "no NetworkPolicy lets it ask DNS for its collector")


def service_reaches_pods(rendering, service):
    chosen = [d for d in rendering.of("Deployment") if matches({"matchLabels": service["spec"]["selector"]}, pod_labels(d))]
    rendering.expect(len(chosen) == 1, service, f"selects {len(chosen)} Deployments")
    for deployment in chosen:
        ports = {port["name"]: port["containerPort"] for c in deployment["spec"]["template"]["spec"]["containers"] for port in c["ports"]}
        for port in service["spec"]["ports"]:
            rendering.expect(ports.get(port["targetPort"]) == port["port"], service, f"port {port['name']} leads nowhere")


def autoscaling(rendering):
    scaled = {}
    for scaler in (s for kind in POD_SCALERS for s in rendering.of(kind)):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        rendering.expect(target not in scaled, scaler, f"{target} has two autoscalers")
        scaled[target] = scaler
        for deployment in rendering.of("Deployment", target):
            rendering.expect("replicas" not in deployment["spec"], deployment, "`replicas` would undo its autoscaler at each apply")
        rendering.expect(rendering.of("Deployment", target), scaler, f"there is no Deployment {target}")
        for trigger in scaler["spec"].get("triggers", []):
            limit = next((c["data"].get("WORKER_MAX_CALLS") for c in rendering.of("ConfigMap") if "WORKER_MAX_CALLS" in c["data"]), "500")
            if target == "audio-worker":
                rendering.expect(float(trigger["metadata"]["threshold"]) < float(limit), scaler, f"waits until workers are full ({limit})")


def disruption(rendering):
    for budget in rendering.of("PodDisruptionBudget"):
        chosen = [d for d in rendering.of("Deployment") if matches(budget["spec"]["selector"], pod_labels(d))]
        rendering.expect(len(chosen) == 1, budget, f"selects {len(chosen)} Deployments")
        # A lone pod under minAvailable, or maxUnavailable 0, stops every drain of its node.
        rendering.expect(budget["spec"].get("maxUnavailable", 0) != 0, budget, "lets no node be drained")


def network(rendering):
    policies = rendering.of("NetworkPolicy")
    for deployment in rendering.of("Deployment"):
        mine = [p["spec"] for p in policies if matches(p["spec"]["podSelector"], pod_labels(deployment))]
        closed = [p for p in mine if set(p["policyTypes"]) == {"Ingress", "Egress"} and not p.get("ingress") and not p.get("egress")]
        rendering.expect(closed, deployment, "no NetworkPolicy closes what is not opened")
        ports = {port["containerPort"] for c in deployment["spec"]["template"]["spec"]["containers"] for port in c["ports"]}
        opened = {port["port"] for p in mine for rule in p.get("ingress", []) for port in rule.get("ports", [])}
        needed = {50051} if deployment["metadata"]["name"] == "audio-worker" else {8000} if rendering.of("Ingress") else set()
        rendering.expect(needed <= opened, deployment, f"NetworkPolicies keep {sorted(needed - opened)} shut")
        rendering.expect(all(rule.get("from") for p in mine for rule in p.get("ingress", [])), deployment, "a NetworkPolicy lets everybody in")
        rendering.expect(ports, deployment, "has no ports")


def monitoring(rendering):
    for monitor in rendering.of("ServiceMonitor"):
        chosen = [s for s in rendering.of("Service") if matches(monitor["spec"]["selector"], s["metadata"].get("labels", {}))]
        rendering.expect(len(chosen) == 1, monitor, f"selects {len(chosen)} Services")
        for service in chosen:
            ports = {port["name"] for port in service["spec"]["ports"]}
            rendering.expect(all(e["port"] in ports for e in monitor["spec"]["endpoints"]), monitor, "asks a port that its Service does not have")


def secrets(rendering, planted):
    encoded = base64.b64encode(planted.encode()).decode()
    for resource in rendering.resources:
        text = json.dumps(resource)
        if resource["kind"] != "Secret":
            rendering.expect(planted not in text and encoded not in text, resource, "holds the auth token")
    rendering.expect(any(encoded in json.dumps(s) for s in rendering.of("Secret")), None, "the Secret does not hold the auth token")


def matches(selector, labels):
    return "matchExpressions" not in selector and all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def pod_labels(deployment):
    return deployment["spec"]["template"]["metadata"]["labels"]


def settings_known_to(program):
    text = subprocess.run([program, "--help"], env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True).stdout
    found = set(re.findall(r"\[env ([A-Z0-9_]+)", text))
    if not found:
        sys.exit(f"{program} --help names no setting")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="folder with both services")
    parser.add_argument("--schemas", type=pathlib.Path, required=True)
    parser.add_argument("--kubernetes", action="append", required=True, help="release, such as 1.32; may be repeated")
    parser.add_argument("--planted", default=os.environ.get("PLANTED"), help="auth token in the Secret")
    parser.add_argument("rendered", type=pathlib.Path, nargs="+")
    options = parser.parse_args()
    options.programs = options.programs.resolve()
    settings = {name: settings_known_to(options.programs / name) for name in SERVICES}
    mistakes = []
    for path in options.rendered:
        rendering = Rendering(path)
        examine(rendering, options, settings)
        mistakes += rendering.mistakes
    for mistake in mistakes:
        print(mistake)
    print(f"{len(options.rendered)} renderings, Kubernetes {', '.join(options.kubernetes)}: {len(mistakes)} mistakes")
    sys.exit(bool(mistakes))


if __name__ == "__main__":
    main()
