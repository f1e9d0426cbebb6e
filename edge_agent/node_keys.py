"""Where a node keeps its keys: in files, or with the chip that the setting `tpm` names.

Owns: the choice, and that a node does not lose its identity by it: a key that was made in one place is not looked for
in the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.disk import LocalDisk
from edge_agent.identity import IdentityStore
from edge_agent.tpm import Tpm
from edge_agent.vault import FileVault
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.config import Settings
    from edge_agent.vault import Vault


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The node's identity with its bound key, and the vault of the keys that it makes for itself.

    Attributes:
        in_chip: whether a security chip keeps them.
    """

    identity: IdentityStore
    vault: Vault
    in_chip: bool = False


def open_keys(settings: Settings) -> NodeKeys:
    """Return the keys of a data directory.

    Raises:
        FleetError: CONFIG_INVALID when the node's bound key was made elsewhere than where the settings say.
    """
    folder, disk = settings.data_dir / "keys", LocalDisk()
    chip = Tpm(settings.tpm, folder) if settings.tpm else None
    in_chip, in_file = Tpm("", folder).has_bound_key, (folder / "bound.pem").exists()
    store = IdentityStore(disk, settings.data_dir, chip)
    if chip is None:
        if in_chip:
            raise FleetError(
                Code.CONFIG_INVALID,
                "a security chip holds this node's key, and no chip is set",
                place=str(settings.data_dir / "agent.toml"),
                remedy='Set `tpm = "device:/dev/tpmrm0"` in agent.toml, or however the chip is reached.',
            )
        return NodeKeys(store, FileVault(folder))
    if in_file and not in_chip and store.load() is not None:
        raise FleetError(
            Code.CONFIG_INVALID,
            "this node joined with a key in a file, which no chip can take over",
            place=str(folder / "bound.pem"),
            remedy="Join it again in an empty data directory, with `tpm` set.",
        )
    return NodeKeys(store, chip, in_chip=True)
