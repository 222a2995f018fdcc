"""Two raylets on one machine: a leak on the second one dies, a task on the first one lives."""

import time

import ray
from common import MIB, leak, ran, runs
from ray.cluster_utils import Cluster

small = {"num_cpus": 2, "object_store_memory": 100 * MIB, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={**small, "resources": {"one": 1}})
cluster.add_node(num_cpus=2, object_store_memory=100 * MIB, resources={"two": 1})
ray.init(address=cluster.address, log_to_driver=False)
time.sleep(5)


@ray.remote(max_retries=0, resources={"one": 1})
def sleeps():
    ran("sleeps")
    time.sleep(15)
    return "slept"


@ray.remote(max_retries=0, resources={"two": 1})
def leaks():
    ran("leaks")
    leak(0.02)


older = sleeps.remote()
time.sleep(2)
try:
    ray.get(leaks.remote(), timeout=60)
    raise SystemExit("it was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
assert ray.get(older, timeout=60) == "slept"
assert (runs("leaks"), runs("sleeps")) == (1, 1)
ray.shutdown()
cluster.shutdown()
print("ok: the leak of the second raylet died, the task of the first one lives")
