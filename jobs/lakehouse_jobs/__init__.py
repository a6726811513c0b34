"""The jobs: bronze on Flink, silver and gold on Spark. They know the contract and nothing of the operator."""
