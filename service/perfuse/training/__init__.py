"""Trainers and the recipes of the shipped models. Imports torch."""
