"""Pictures and tables of one thing: a setup, its graph, a schedule, a probe, a rule."""
