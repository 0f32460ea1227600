"""What a provider's own block, and what it makes of the neutral fields, is refused for."""

from crd_case import Bad, rule, schema

_NETWORK = {"type": "network", "id": "storage-1", "mountPath": "/models"}
_LOCAL = {"type": "local", "mountPath": "/data"}
_FLAGS = {"tokenizerSkipSpecialTokens": True, "tokenizerAddSpecialTokens": True}

FRIENDLI: tuple[Bad, ...] = (
    rule(
        "GPU without count",
        "friendli",
        {"spec.gpu": {"type": "H100"}},
        "spec",
        "write for example gpu: {type: H100, count: 2}",
    ),
    rule(
        "GPU without type",
        "friendli",
        {"spec.gpu": {"count": 2}},
        "spec",
        "write for example gpu: {type: H100, count: 2}",
    ),
    rule("empty GPU", "friendli", {"spec.gpu": {}}, "spec", "gpu on friendli needs both type and count"),
    rule(
        "unknown GPU", "friendli", {"spec.gpu": {"type": "A100", "count": 1}}, "spec", "write one of A100-80GB x1/2/4/8"
    ),
    rule("three GPUs", "friendli", {"spec.gpu": {"type": "H100", "count": 3}}, "spec", "H100 x1/2/4/8"),
    schema("no GPU", "friendli", {"spec.gpu": {"type": "H100", "count": 0}}, "spec.gpu.count", "at least 1"),
    rule(
        "two GPU shapes",
        "friendli",
        {"spec.gpu": {"type": "H100", "count": 1}, "spec.friendli.instanceOptionId": "TwD5AqnBSVN0"},
        "spec",
        "both name a GPU shape; write only one",
    ),
    schema(
        "option misspelt",
        "friendli",
        {"spec.friendli.hfModelrepo": "a/b"},
        "spec.friendli.hfModelrepo",
        "write hfModelRepo",
    ),
    schema(
        "empty option",
        "friendli",
        {"spec.friendli.instanceOptionId": ""},
        "spec.friendli.instanceOptionId",
        "at least 1",
    ),
    schema("empty model", "friendli", {"spec.friendli.hfModelRepo": ""}, "spec.friendli.hfModelRepo", "at least 1"),
    schema(
        "team for two headers",
        "friendli",
        {"spec.friendli.teamId": "a\nX-Other: b"},
        "spec.friendli.teamId",
        "a text that matches",
    ),
    schema(
        "one flag",
        "friendli",
        {"spec.friendli.advanced": {"tokenizerSkipSpecialTokens": True}},
        "spec.friendli.advanced",
        "tokenizerAddSpecialTokens is missing",
    ),
    schema(
        "no batch",
        "friendli",
        {"spec.friendli.advanced": {**_FLAGS, "maxBatchSize": 0}},
        "spec.friendli.advanced.maxBatchSize",
        "at least 1",
    ),
    schema(
        "name of the wire",
        "friendli",
        {"spec.friendli.advanced": {**_FLAGS, "max_batch_size": 1}},
        "spec.friendli.advanced.max_batch_size",
        "write maxBatchSize",
    ),
)

NOVITA: tuple[Bad, ...] = (
    rule(
        "GPU type",
        "novita",
        {"spec.gpu": {"type": "H100", "count": 1}},
        "spec",
        "remove it and write only gpu: {count: 1}",
    ),
    rule(
        "internal port", "novita", {"spec.novita.port": 2223}, "spec.novita.port", "write another port of the container"
    ),
    rule("last internal port", "novita", {"spec.novita.port": 2224}, "spec.novita.port", "such as 8080"),
    schema("port 0", "novita", {"spec.novita.port": 0}, "spec.novita.port", "at least 1"),
    schema("port too high", "novita", {"spec.novita.port": 65536}, "spec.novita.port", "at most 65535"),
    schema("port as text", "novita", {"spec.novita.port": "8080"}, "spec.novita.port", "of type integer"),
    schema("list of ports", "novita", {"spec.novita.ports": [{"port": "8080"}]}, "spec.novita.ports", "write port"),
    schema(
        "wrong policy type",
        "novita",
        {"spec.novita.policy": {"type": "latency", "value": 1}},
        "spec.novita.policy.type",
        "queue, concurrency",
    ),
    schema("half a policy", "novita", {"spec.novita.policy": {"value": 3}}, "spec.novita.policy", "type is missing"),
    schema(
        "long image", "novita", {"spec.novita.image": {"image": "i" * 512}}, "spec.novita.image.image", "at most 511"
    ),
    schema(
        "long command",
        "novita",
        {"spec.novita.image": {"command": "c" * 2048}},
        "spec.novita.image.command",
        "at most 2047",
    ),
    schema(
        "long authId", "novita", {"spec.novita.image": {"authId": "a" * 256}}, "spec.novita.image.authId", "at most 255"
    ),
    schema("long cluster", "novita", {"spec.novita.clusterID": "c" * 256}, "spec.novita.clusterID", "at most 255"),
    schema("cluster misspelt", "novita", {"spec.novita.clusterId": "c"}, "spec.novita.clusterId", "write clusterID"),
    rule(
        "local volume of 50",
        "novita",
        {"spec.novita.volumeMounts": [{**_LOCAL, "size": 50}]},
        "spec.novita.volumeMounts[0]",
        "{type: local, size: 30, mountPath: /data}",
    ),
    rule(
        "local volume with id",
        "novita",
        {"spec.novita.volumeMounts": [{**_LOCAL, "id": "x"}]},
        "spec.novita.volumeMounts[0]",
        "a local volume has size 30 and no id",
    ),
    rule(
        "network volume without id",
        "novita",
        {
            "spec.novita.clusterID": "c",
            "spec.novita.volumeMounts": [_LOCAL, {"type": "network", "mountPath": "/models"}],
        },
        "spec.novita.volumeMounts[1]",
        "id: STORAGE-ID",
    ),
    rule(
        "network volume with size",
        "novita",
        {"spec.novita.clusterID": "c", "spec.novita.volumeMounts": [{**_NETWORK, "size": 30}]},
        "spec.novita.volumeMounts[0]",
        "and has no size",
    ),
    rule(
        "network volume without cluster",
        "novita",
        {"spec.novita.volumeMounts": [_NETWORK]},
        "spec.novita",
        "write that cluster's id in novita.clusterID",
    ),
    schema(
        "relative mount",
        "novita",
        {"spec.novita.volumeMounts": [{**_LOCAL, "mountPath": "data"}]},
        "spec.novita.volumeMounts[0].mountPath",
        "matches ^/",
    ),
    schema(
        "one mount twice",
        "novita",
        {"spec.novita.volumeMounts": [_LOCAL, _LOCAL]},
        "spec.novita.volumeMounts",
        "two entries have the mountPath /data",
    ),
    rule(
        "variable without value",
        "novita",
        {"spec.novita.envs": [{"name": "A"}]},
        "spec.novita.envs[0]",
        "write exactly one of them",
    ),
    rule(
        "variable with two values",
        "novita",
        {"spec.novita.envs": [{"name": "A", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        "spec.novita.envs[0]",
        "write exactly one of them",
    ),
    schema(
        "variable twice",
        "novita",
        {"spec.novita.envs": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "spec.novita.envs",
        "two entries have the name A",
    ),
    schema(
        "variable as a number",
        "novita",
        {"spec.novita.envs": [{"name": "A", "value": 1}]},
        "spec.novita.envs[0].value",
        "put it in quotes",
    ),
    schema(
        "variable by key",
        "novita",
        {"spec.novita.envs": [{"key": "A", "name": "A", "value": "1"}]},
        "spec.novita.envs[0].key",
        "no such field",
    ),
    schema(
        "Secret without key",
        "novita",
        {"spec.novita.envs": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]},
        "spec.novita.envs[0].valueFrom.secretKeyRef",
        "key is missing",
    ),
    schema(
        "too many variables",
        "novita",
        {"spec.novita.envs": [{"name": f"A{i}", "value": ""} for i in range(257)]},
        "spec.novita.envs",
        "at most 256",
    ),
    schema("variables as a map", "novita", {"spec.novita.envs": {"A": "1"}}, "spec.novita.envs", "of type array"),
    schema("no health path", "novita", {"spec.novita.healthy": {}}, "spec.novita.healthy", "path is missing"),
    schema(
        "health timing",
        "novita",
        {"spec.novita.healthy": {"path": "/", "period": 5}},
        "spec.novita.healthy.period",
        "no such field",
    ),
    schema("long name", "novita", {"spec.novita.name": "n" * 221}, "spec.novita.name", "at most 220"),
)
