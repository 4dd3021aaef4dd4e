"""Ignite trainer and evaluator, their handlers, and exact resume."""
