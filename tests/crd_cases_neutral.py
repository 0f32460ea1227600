"""What every provider's resource is refused for."""

from crd_case import GONE, Bad, rule, schema

_XOR = """kubectl patch inferenceendpoint NAME --type=json -p '[{"op":"remove","path":"/spec/scaling"}]'"""

NEUTRAL: tuple[Bad, ...] = (
    schema("no provider", "friendli", {"spec.provider": GONE}, "spec", "provider is missing"),
    schema("unknown provider", "friendli", {"spec.provider": "acme"}, "spec.provider", "write one of friendli, novita"),
    schema("provider in capitals", "friendli", {"spec.provider": "Friendli"}, "spec.provider", "write one of friendli"),
    rule("no block", "friendli", {"spec.friendli": GONE}, "spec", "add friendli: and its fields"),
    rule("no block, Novita", "novita", {"spec.novita": GONE}, "spec", "or novita: {} to manage none of them"),
    rule(
        "two blocks", "friendli", {"spec.novita": {}}, "spec", "the block novita belongs to another provider; remove it"
    ),
    rule(
        "two blocks, Novita", "novita", {"spec.friendli": {}}, "spec", "the block friendli belongs to another provider"
    ),
    rule("block of another", "novita", {"spec.provider": "friendli"}, "spec", "add friendli: and its fields"),
    schema(
        "endpoint with a slash", "novita", {"spec.endpointId": "a/b"}, "spec.endpointId", "write a text that matches"
    ),
    schema("endpoint of dots", "friendli", {"spec.endpointId": ".."}, "spec.endpointId", "write a text that matches"),
    schema("endpoint, leading dash", "friendli", {"spec.endpointId": "-a"}, "spec.endpointId", "a text that matches"),
    schema("endpoint, encoded", "friendli", {"spec.endpointId": "a%2e"}, "spec.endpointId", "a text that matches"),
    schema("endpoint, newline", "friendli", {"spec.endpointId": "ep-1\n"}, "spec.endpointId", "a text that matches"),
    schema("empty endpoint", "friendli", {"spec.endpointId": ""}, "spec.endpointId", "write a text that matches"),
    schema("long endpoint", "friendli", {"spec.endpointId": "e" * 129}, "spec.endpointId", "at most 128 characters"),
    schema("endpoint as a number", "friendli", {"spec.endpointId": 123}, "spec.endpointId", "put it in quotes"),
    schema("no Secret", "friendli", {"spec.credentialsSecretRef": GONE}, "spec", "credentialsSecretRef is missing"),
    schema(
        "no Secret name", "friendli", {"spec.credentialsSecretRef": {}}, "spec.credentialsSecretRef", "name is missing"
    ),
    schema(
        "Secret of another namespace",
        "friendli",
        {"spec.credentialsSecretRef.namespace": "kube-system"},
        "spec.credentialsSecretRef.namespace",
        "there is no such field",
    ),
    schema(
        "Secret name with a slash",
        "friendli",
        {"spec.credentialsSecretRef.name": "other/key"},
        "spec.credentialsSecretRef.name",
        "write a text that matches",
    ),
    schema(
        "Secret key with a slash",
        "friendli",
        {"spec.credentialsSecretRef.key": "../key"},
        "spec.credentialsSecretRef.key",
        "write a text that matches",
    ),
    schema("wrong policy", "friendli", {"spec.managementPolicy": "manage"}, "spec.managementPolicy", "Manage, Observe"),
    schema("wrong drift policy", "friendli", {"spec.driftPolicy": "Fix"}, "spec.driftPolicy", "Report, Correct"),
    schema("wrong adoption", "friendli", {"spec.adoptionPolicy": "Take"}, "spec.adoptionPolicy", "Apply, Match"),
    schema("wrong deletion", "friendli", {"spec.deletionPolicy": "Orphan"}, "spec.deletionPolicy", "Retain, Delete"),
    schema("suspend as text", "friendli", {"spec.suspend": "true"}, "spec.suspend", "of type boolean"),
    schema(
        "no deadline", "friendli", {"spec.progressDeadlineSeconds": 0}, "spec.progressDeadlineSeconds", "at least 1"
    ),
    schema("long comment", "friendli", {"spec.versionComment": "c" * 1025}, "spec.versionComment", "at most 1024"),
    schema(
        "address of an API", "friendli", {"spec.baseUrl": "https://x.test"}, "spec.baseUrl", "no such field; remove it"
    ),
    schema("field misspelt", "friendli", {"spec.endpointID": "a"}, "spec.endpointID", "write endpointId"),
    schema("spec misspelt", "friendli", {"specs": {}}, "specs", "there is no such field; write spec"),
    schema("no spec", "friendli", {"spec": GONE}, "", "spec is missing"),
    schema("name in capitals", "friendli", {"metadata.name": "Case"}, "metadata.name", "write a text that matches"),
    schema("no name", "friendli", {"metadata": {}}, "metadata", "name is missing"),
    schema("label misspelt", "friendli", {"metadata.lables": {}}, "metadata.lables", "write labels"),
    schema(
        "annotation without quotes",
        "friendli",
        {"metadata.annotations": {"inference-operator.io/suspend": True}},
        "metadata.annotations.inference-operator.io/suspend",
        "put it in quotes",
    ),
)

SCALING: tuple[Bad, ...] = (
    rule(
        "replicas and bounds",
        "friendli",
        {"spec.scaling": {"replicas": 1, "minReplicas": 0, "maxReplicas": 2}},
        "spec.scaling",
        _XOR,
    ),
    rule("replicas and one bound", "novita", {"spec.scaling": {"replicas": 1, "maxReplicas": 2}}, "spec.scaling", _XOR),
    rule(
        "lower bound only", "friendli", {"spec.scaling": {"minReplicas": 0}}, "spec.scaling", "go together; write both"
    ),
    rule("upper bound only", "novita", {"spec.scaling": {"maxReplicas": 2}}, "spec.scaling", "go together; write both"),
    rule(
        "bounds crossed",
        "novita",
        {"spec.scaling": {"minReplicas": 3, "maxReplicas": 2}},
        "spec.scaling",
        "or a greater maxReplicas",
    ),
    schema("replicas negative", "novita", {"spec.scaling": {"replicas": -1}}, "spec.scaling.replicas", "at least 0"),
    schema(
        "replicas as text", "novita", {"spec.scaling": {"replicas": "2"}}, "spec.scaling.replicas", "of type integer"
    ),
    schema("half a replica", "novita", {"spec.scaling": {"replicas": 1.5}}, "spec.scaling.replicas", "of type integer"),
    schema(
        "replicas as boolean", "novita", {"spec.scaling": {"replicas": True}}, "spec.scaling.replicas", "type integer"
    ),
    schema(
        "too many for 32 bits",
        "novita",
        {"spec.scaling": {"replicas": 2**31}},
        "spec.scaling.replicas",
        "at most 2147483647",
    ),
    schema(
        "cooldown negative",
        "novita",
        {"spec.scaling": {"cooldownSeconds": -1}},
        "spec.scaling.cooldownSeconds",
        "at least 0",
    ),
    schema("scaling as number", "novita", {"spec.scaling": 2}, "spec.scaling", "of type object"),
    schema(
        "provider's name", "novita", {"spec.scaling": {"minReplica": 0}}, "spec.scaling.minReplica", "write minReplicas"
    ),
    rule("no replica", "friendli", {"spec.scaling": {"replicas": 0}}, "spec", "{minReplicas: 0, maxReplicas: 1}"),
    rule(
        "eleven replicas",
        "friendli",
        {"spec.scaling": {"replicas": 11}},
        "spec",
        "scaling.replicas on friendli is 1 to 10",
    ),
    rule(
        "bound of eleven",
        "friendli",
        {"spec.scaling": {"minReplicas": 1, "maxReplicas": 11}},
        "spec",
        "scaling.maxReplicas on friendli is 1 to 10",
    ),
    rule(
        "bound of none",
        "friendli",
        {"spec.scaling": {"minReplicas": 0, "maxReplicas": 0}},
        "spec",
        "scaling.maxReplicas on friendli is 1 to 10",
    ),
    rule(
        "cooldown, fixed",
        "friendli",
        {"spec.scaling": {"replicas": 1, "cooldownSeconds": 60}},
        "spec",
        "belongs to autoscaling; write minReplicas",
    ),
    rule(
        "cooldown alone",
        "friendli",
        {"spec.scaling": {"cooldownSeconds": 60}},
        "spec",
        "belongs to autoscaling; write minReplicas",
    ),
    schema(
        "connection without a name",
        "friendli",
        {"spec.writeConnectionTo": {}},
        "spec.writeConnectionTo",
        "configMapName is missing",
    ),
    schema(
        "connection to a name with a slash",
        "novita",
        {"spec.writeConnectionTo": {"configMapName": "a/b"}},
        "spec.writeConnectionTo.configMapName",
        "write a text that matches",
    ),
    schema(
        "key of a connection with a space",
        "novita",
        {"spec.writeConnectionTo": {"configMapName": "a", "keys": {"url": "base url"}}},
        "spec.writeConnectionTo.keys.url",
        "write a text that matches",
    ),
    rule(
        "two values under one key",
        "novita",
        {"spec.writeConnectionTo": {"configMapName": "a", "keys": {"endpointId": "x", "url": "x"}}},
        "spec.writeConnectionTo.keys",
        "two values cannot have one key",
    ),
    rule(
        "a key that is another's default",
        "friendli",
        {"spec.writeConnectionTo": {"configMapName": "a", "keys": {"endpointId": "provider"}}},
        "spec.writeConnectionTo.keys",
        "two values cannot have one key",
    ),
    schema(
        "key of a connection of dots",
        "novita",
        {"spec.writeConnectionTo": {"configMapName": "a", "keys": {"url": ".."}}},
        "spec.writeConnectionTo.keys.url",
        "write a text that matches",
    ),
)
