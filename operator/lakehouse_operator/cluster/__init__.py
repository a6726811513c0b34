"""The only room that talks to the API server.

`port` says what the operator needs of a cluster, `errors` what can go wrong, `kinds` names the resources; `client` is
the real cluster and `rest` its connection; `lease` elects one leader among replicas.
"""
