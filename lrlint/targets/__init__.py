"""From a target to live objects: import the user's code, call its factory or run its script."""
