"""Readout vectors: directions in the residual stream, one per concept and layer, to measure or to steer a model by."""
