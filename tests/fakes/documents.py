"""Documents in which every field is set, for tests that change one thing."""

DIGEST = "sha256:" + "a" * 64

GRANT = f"""\
schema: fleet.grant/v1
agent: climate/context
revision: 7
applies_to:
  bundle: {{name: context-agent, versions: ">=0.1.0,<0.2", sha256: ["{DIGEST}"]}}
  nodes: {{labels: {{site: oslo, zone: line-3}}}}
validity: {{not_before: 2026-01-01T00:00:00Z, not_after: 2027-01-01T00:00:00Z}}
lease: {{max_stale: 30d, on_lapse: {{drop: ["wasi:nn/graph"]}}}}
risk: high
caps:
  wasi:logging/logging: []
  wasi:keyvalue/store: [{{buckets: [context, "cfg-*"], ops: [get, set], max_bytes: 50MiB}}]
  wasi:nn/graph:
    - {{models: ["{DIGEST}", anomaly], devices: [cpu]}}
    - {{models: [second], devices: [gpu]}}
  wasi:nn/inference: []
limits: {{memory: 32MiB, deadline: 500ms, log_per_minute: 0B, keyvalue: 1MiB, queue: 2, stack: 1MiB, output: 32KiB,
  host_calls_per_second: 500, fuel_per_call: 2000000000, calls_in_flight: 7}}
reason: OPS-4411 line-3 roll-out
"""

APPLICATION = """\
schema: fleet.application/v1
application: climate
agents:
  - name: context
    bundle: context-agent@0.1.0
    grant: 1
    placement: {labels: {site: oslo}, count: 2}
    config: {unit: celsius}
    triggers:
      - telemetry: {every: 1s, sources: [cpu, memory, temperature], function: handle-data}
      - event: {topic: sensors/temperature, function: "syuthd:agent-mesh/sensor-handler#handle-data"}
      - timer: {every: 5s, function: handle-data, arguments: '{source: "t", value: 1.0, timestamp: 0}'}
    restart: {initial: 1s, cap: 2m, stable: 3m}
    on_full_queue: drop-oldest
    health: {every: 5s, deadline: 200ms, failures: 2}
  - name: second
    bundle: second-agent@1.0.0-rc.1
rollout: {waves: [1, 50%, 100%], healthy_for: 5s, deadline: 2m, max_failures: 1}
"""
