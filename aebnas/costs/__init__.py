"""What networks cost: MACs and latency of blocks, composed into exit costs."""
