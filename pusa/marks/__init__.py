"""Descriptors of key points that were learnt: what a mark of the grey picture looks like, whatever the light."""
