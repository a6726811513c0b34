"""A Kubernetes cluster of one node on this machine, in namespaces of its own: the parts of `setup/cluster.py`.

| module | does |
|---|---|
| `place.py` | says where a cluster keeps its files, what it is called and what is known of it |
| `network.py` | finds a free subnet and joins the node's network to the host's |
| `cgroups.py` | makes and removes the cgroups that the node lives in |
| `processes.py` | tells whether a recorded process is still the same one |
| `configuration.py` | writes the configuration and the command line of each program of the node |
| `inside.py` | is the node's process 1: mounts what is its own, starts the programs and keeps them running |
| `node.py` | brings all of this up and down |
| `archive.py` | packs programs as a container image, without a builder |
"""
