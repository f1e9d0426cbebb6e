"""Values of the node for its agents: the host itself, files, streams and MQTT topics.

Owns: everything between a source and the reading that an agent is given. `declarations` says what an operator may
declare, `values` how bytes become a number, `table` what is known about each source and who is told; `host`, `files`,
`streams` and `broker` read one kind of source each; `run` keeps them reading.

Nothing here trusts what it reads: a source may send anything, as long and as often as it likes. What is malformed is
counted and told as an event once, until a good value follows.
"""

from edge_agent.sensors.declarations import Source, parse_sources
from edge_agent.sensors.run import Sensors
from edge_agent.sensors.table import SensorTable

__all__ = ["SensorTable", "Sensors", "Source", "parse_sources"]
