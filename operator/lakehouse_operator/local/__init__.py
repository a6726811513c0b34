"""The pipeline on one machine: real Kafka, Flink and Spark processes, without Docker and without Kubernetes.

`guard`, `processes`, `ports`, `engines`, `kafka`, `flink` and `spark` use the standard library alone, because the tests
of the jobs import them from the engines' own environments. Linux only: they read `/proc`.
"""
