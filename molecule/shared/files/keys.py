"""keys.py write|read ADDRESS PORT: a thousand keys all over the cluster. REDISCLI_AUTH: the password.

write ends when every key is also on a replica. read fails where a key has not the value that was written.
Ends with 2 where the cluster does not serve all slots: it may later.
"""

import os
import sys

import redis.cluster

word, address, port = sys.argv[1:]
wanted = {f"key:{number}": f"value:{number}" for number in range(1000)}
try:
    client = redis.cluster.RedisCluster(address, int(port), password=os.environ["REDISCLI_AUTH"], decode_responses=True)
    if word == "write":
        for key, value in wanted.items():
            client.set(key, value)
        replicas = {node.name: client.wait(1, 5000, target_nodes=node) for node in client.get_primaries()}
        sys.exit(0 if all(replicas.values()) else f"some keys are on no replica: {replicas}")
    lost = [key for key, value in wanted.items() if client.get(key) != value]
except redis.RedisError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
sys.exit(f"{len(lost)} of {len(wanted)} keys are lost: {lost[:10]} ..." if lost else 0)
