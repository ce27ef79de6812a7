"""What is counted, in Prometheus's words. Labels are reasons, outcomes and destinations, never a patient.

The listener serves them: its own counters, and gauges read from the ledger, which knows what the workers do.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()

acknowledged = Counter("cauda_instances_acknowledged", "Objects answered with success", registry=registry)
refused = Counter("cauda_instances_refused", "Objects answered with a failure", ["reason"], registry=registry)
filed = Counter("cauda_instances_filed", "Objects filed, by what they were", ["outcome"], registry=registry)
associations = Counter("cauda_associations", "Associations, by how they ended", ["how"], registry=registry)
refused_peers = Counter("cauda_peers_refused", "Connections and associations refused", ["reason"], registry=registry)
handshakes_failed = Counter("cauda_tls_handshakes_failed", "TLS handshakes that failed", ["why"], registry=registry)
certificate_expires = Gauge(
    "cauda_tls_certificate_expires_seconds", "When the first certificate expires, seconds since 1970", ["door"],
    registry=registry,
)  # fmt: skip
acknowledge_seconds = Histogram(
    "cauda_acknowledge_seconds",
    "From the whole object in memory to its answer",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    registry=registry,
)
waiting = Gauge("cauda_arrivals_waiting", "Objects acknowledged and not yet filed", registry=registry)
studies = Gauge("cauda_studies", "Studies, by state", ["state"], registry=registry)
held = Gauge("cauda_studies_held", "Studies on hold", registry=registry)
revisions = Gauge("cauda_revisions", "Revisions, by state", ["state"], registry=registry)
deliveries = Gauge(
    "cauda_deliveries", "Deliveries, by destination and state", ["destination", "state"], registry=registry
)
breaker = Gauge("cauda_destination_failures", "Failures in a row of a destination", ["destination"], registry=registry)
free_bytes = Gauge("cauda_free_bytes", "Free space under the data folder", registry=registry)
