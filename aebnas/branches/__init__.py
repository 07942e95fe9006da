"""Exit branches: their specification, layers and heads."""
