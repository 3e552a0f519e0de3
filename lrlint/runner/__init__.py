"""From targets to their facts: processes, and what comes out of them."""
