"""What wrappers and trainers of other libraries hold."""
