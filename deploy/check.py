"""Checks deploy/kubernetes without a cluster; see `check`, which runs this."""

import copy
import pathlib
import subprocess
import sys

import kubernetes_validate
import yaml

# The oldest version whose kubelet probes gRPC in general availability, and the newest known.
VERSIONS = ["1.27", kubernetes_validate.__version__.rsplit(".", 1)[0]]
HERE = pathlib.Path("kubernetes")
FOLDERS = [HERE, HERE / "study"]

problems = []


def expect(condition, problem):
    if not condition:
        problems.append(problem)


def name(thing):
    return f"{thing['kind']} {thing['metadata']['name']}"


def rendered(folder):
    command = ["kubectl", "kustomize", str(folder)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return list(yaml.safe_load_all(text))


def schema_errors(thing, version):
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{name(thing)}: {'.'.join(map(str, error.path))}: {error.message} (in {version})"]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"{name(thing)}: {version} has no {thing['kind']} of {thing['apiVersion']}"]
    return []


def every_file_is_listed():
    for folder in FOLDERS:
        listed = set(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"])
        there = {path.name for path in folder.glob("*.y*ml")} - {"kustomization.yaml"}
        expect(listed == there, f"{folder}/kustomization.yaml lists {listed}, there are {there}")


def pods(things):
    """Every pod that is made, with whom it is made by."""
    for thing in things:
        if "template" in thing.get("spec", {}):
            yield thing, thing["spec"]["template"]


def pods_are_hardened(things):
    for thing, template in pods(things):
        pod, told = template["spec"], name(thing)
        context = pod.get("securityContext", {})
        expect(context.get("runAsNonRoot") is True, f"{told} may run as root")
        expect(context.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{told}: seccomp")
        expect(pod.get("automountServiceAccountToken") is False, f"{told} gets the API's token")
        expect(pod.get("enableServiceLinks") is False, f"{told} gets variables of services")
        expect(len(pod["containers"]) == 1, f"{told} has other containers")
        for container in pod["containers"]:
            context = container.get("securityContext", {})
            expect(context.get("readOnlyRootFilesystem") is True, f"{told} may write its root")
            expect(context.get("allowPrivilegeEscalation") is False, f"{told} may gain privileges")
            expect(context.get("capabilities") == {"drop": ["ALL"]}, f"{told} has capabilities")
            resources = container.get("resources", {})
            expect({"cpu", "memory"} <= resources.get("requests", {}).keys(), f"{told}: requests")
            expect("memory" in resources.get("limits", {}), f"{told} has no limit of memory")


def matched(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def wanted(selector):
    """The sets of labels that a selector lets in."""
    sets = [dict(selector.get("matchLabels", {}))]
    for term in selector.get("matchExpressions", []):
        assert term["operator"] == "In", term
        sets = [{**one, term["key"]: value} for one in sets for value in term["values"]]
    return sets


def names_lead_somewhere(things):
    """Selectors, ports, volumes and host names, in which the schema sees any string."""
    labels = [template["metadata"]["labels"] for _, template in pods(things)]
    ports = {
        port["name"]: port["containerPort"]
        for _, template in pods(things)
        for port in template["spec"]["containers"][0].get("ports", [])
    }
    services = {thing["metadata"]["name"]: thing for thing in things if thing["kind"] == "Service"}
    claims = {thing["metadata"]["name"] for thing in things if "Claim" in thing["kind"]}
    for thing in things:
        spec, told = thing.get("spec", {}), name(thing)
        if thing["kind"] == "Deployment":
            own = spec["template"]["metadata"]["labels"]
            expect(matched(spec["selector"]["matchLabels"], own), f"{told} selects other pods")
        if thing["kind"] == "Service":
            expect(any(matched(spec["selector"], one) for one in labels), f"{told} has no pods")
            for port in spec["ports"]:
                fits = ports.get(port["targetPort"]) == port["port"]
                expect(fits, f"{told}: its port {port['name']} leads nowhere")
        if thing["kind"] == "NetworkPolicy":
            selectors = [spec["podSelector"]]
            for rule in spec.get("ingress", []):
                selectors += [peer["podSelector"] for peer in rule["from"]]
                for port in rule["ports"]:
                    expect(port["port"] in ports, f"{told}: port {port['port']} leads nowhere")
            for selector in selectors:
                for one in wanted(selector):
                    expect(any(matched(one, other) for other in labels), f"{told}: {one} names no pod")
    for thing, template in pods(things):
        pod, told = template["spec"], name(thing)
        container = pod["containers"][0]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        expect(volumes == mounts, f"{told}: volumes {volumes}, but mounts {mounts}")
        for volume in pod.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            expect(claim is None or claim in claims, f"{told}: there is no claim {claim}")
        for argument in container["args"]:
            _, slashes, place = argument.partition("http://")
            host, _, port = place.partition(":")
            # What is on localhost is for people's browsers.
            if slashes and host != "localhost":
                known = services.get(host, {"spec": {"ports": []}})["spec"]["ports"]
                fits = any(str(one["port"]) == port for one in known)
                expect(fits, f"{told}: no service serves {argument}")


def nothing_secret(things):
    secrets = [thing for thing in things if thing["kind"] == "Secret"]
    expect(not secrets, "a secret stands in the folder; users make their own")


def the_program_knows_its_arguments(things, program):
    for thing, template in pods(things):
        container = template["spec"]["containers"][0]
        expect("command" not in container, f"{name(thing)} replaces the image's entry point")
        # Help comes last, so that what stands before it is looked at.
        ran = subprocess.run([program, *container["args"], "--help"], capture_output=True, text=True)
        expect(ran.returncode == 0, f"{name(thing)}: {ran.stderr.strip()}")


def typos_are_found(things):
    """The check itself: of each of these the validator must say something."""

    def misspelt(container):
        container["imgae"] = container.pop("image")

    def a_word_for_a_number(container):
        container["ports"][0]["containerPort"] = "grpc"

    def unknown_field(container):
        container["securityContext"]["readOnlyRootFileSystem"] = True

    [deployment, *_] = [
        thing for thing, template in pods(things) if "ports" in template["spec"]["containers"][0]
    ]
    for version in VERSIONS:
        for typo in [misspelt, a_word_for_a_number, unknown_field]:
            broken = copy.deepcopy(deployment)
            typo(broken["spec"]["template"]["spec"]["containers"][0])
            expect(schema_errors(broken, version), f"{version}: {typo.__name__} goes unnoticed")


def main():
    every_file_is_listed()
    things = [thing for folder in FOLDERS for thing in rendered(folder)]
    for version in VERSIONS:
        for thing in things:
            problems.extend(schema_errors(thing, version))
    pods_are_hardened(things)
    names_lead_somewhere(things)
    nothing_secret(things)
    typos_are_found(things)
    for program in sys.argv[1:]:
        the_program_knows_its_arguments(things, program)
    for problem in problems:
        print(f"deploy/kubernetes: {problem}", file=sys.stderr)
    if problems:
        return 1
    kinds = f"{len(things)} objects, Kubernetes {VERSIONS[0]} and {VERSIONS[-1]}"
    print(f"deploy/kubernetes: {kinds}, no problem found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
