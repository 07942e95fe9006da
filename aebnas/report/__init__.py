"""Tables, pictures and the HTML report of a finished run."""
