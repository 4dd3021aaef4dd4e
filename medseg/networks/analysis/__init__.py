"""What a network costs and sees, computed from its operators."""
