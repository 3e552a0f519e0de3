"""How text is written: what came from outside is made harmless here, once."""
