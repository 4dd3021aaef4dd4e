"""What is chosen by the evidence of held-out masks."""
