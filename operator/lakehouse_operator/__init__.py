"""A Kubernetes operator for streaming lakehouses: Kafka, Flink, Spark and Apache Iceberg."""
