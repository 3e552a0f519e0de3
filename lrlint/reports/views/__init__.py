"""What the reports show, as plain values: no markup, no colour, no width. Text and HTML draw from the same views."""
