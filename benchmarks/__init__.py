"""txasynchat measured beside what one would take instead. ``python -m benchmarks`` runs it."""
