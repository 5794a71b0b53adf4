"""Experiment `lengths`: what shorter vectors keep of long ones, by the way they are shortened."""
