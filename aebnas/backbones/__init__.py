"""Building a backbone, finding where branches can be attached, and cutting it there into segments."""
