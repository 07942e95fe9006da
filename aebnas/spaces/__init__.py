"""The search space: YAML -> genes -> NetworkSpec."""
