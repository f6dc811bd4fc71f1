"""A Ray cluster on this machine, in a process that adds and kills nodes for tests.

It reads commands from standard input, one per line, and answers each: `add` starts a node with one
CPU, `kill` kills the newest node and all its processes with SIGKILL. The cluster ends with the
input. All nodes listen only on the loopback address. Ray's own programs cannot do that with several
nodes: on Linux they use the address of a network interface.
"""

import sys

from ray.cluster_utils import Cluster

NODE = {
  "node_ip_address": "127.0.0.1",
  "num_cpus": 1,
  "object_store_memory": 80 << 20,
  "include_dashboard": False,
}


def main() -> None:
  cluster = Cluster(initialize_head=True, head_node_args=NODE)
  nodes = []
  try:
    print(cluster.address, flush=True)
    for line in sys.stdin:
      if line.strip() == "add":
        nodes.append(cluster.add_node(**NODE))
      else:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
      print(len(nodes), flush=True)
  finally:
    cluster.shutdown()


if __name__ == "__main__":
  main()
