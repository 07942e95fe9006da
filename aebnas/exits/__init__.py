"""When to leave: confidence measures, policies, and thresholds that are solved exactly."""
