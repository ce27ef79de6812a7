"""How far the phantom's pictures are from real ones: `python -m cauda.models.realism`."""
