"""Settings of the whole cluster: kept in its store, laid over each host's own configuration, watched live."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import msgspec

from morgand.api.schema import SettingView
from morgand.base.errors import ConfigError, InvalidInput, NotFound
from morgand.cluster import keys
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore, Put
from morgand.config import Config, check_value, field_default, nearest, setting_fields, with_shared
from morgand.roles.catalog import NAMES

log = logging.getLogger("morgand.settings")


class SharedSettings:
    """``current`` is the configuration in force, computed anew whenever the shared settings have changed."""

    def __init__(self, store: ClusterStore, mirror: Mirror, own: Config) -> None:
        self._store = store
        self._mirror = mirror
        self._own = own
        self._seen: dict[str, bytes] = {}
        self._shared: dict[str, Any] = {}
        self._config = own
        self._revision = -1

    def current(self) -> Config:
        if self._revision != self._mirror.revision:
            self._revision = self._mirror.revision
            self._read({item.key.removeprefix(keys.CONFIG): item.value for item in self._mirror.list(keys.CONFIG)})
        return self._config

    def _read(self, found: dict[str, bytes]) -> None:
        if found == self._seen:
            return
        self._seen = found
        values = {key: msgspec.json.decode(value) for key, value in found.items()}
        self._shared = {key: value for key, value in values.items() if _usable(key, value)}
        self._config = with_shared(self._own, self._shared, NAMES)
        log.info("shared settings in force", extra={"keys": sorted(self._shared)})

    def list(self) -> list[SettingView]:
        return [self._view(key) for key, _ in setting_fields(NAMES)]

    def get(self, key: str) -> SettingView:
        """Raises NotFound that names the nearest key."""
        return self._view(self._known(key))

    async def set(self, key: str, value: Any) -> SettingView:
        """Set a key for the whole cluster. Raises NotFound, InvalidInput."""
        field = dict(setting_fields(NAMES))[self._known(key)]
        if not field.metadata["shared"]:
            raise InvalidInput(f"{key} belongs to one host.", remedy="Write it in that host's configuration file.")
        try:
            checked = check_value(key, value, NAMES)
        except ConfigError as err:
            raise InvalidInput(err.message) from err
        await self._mirror.until(await self._store.txn([], [Put(keys.config(key), msgspec.json.encode(checked))]))
        return self._view(key)

    async def delete(self, key: str) -> SettingView:
        """Return to the host's own value or the default. Raises NotFound when it is not set for the cluster."""
        self.current()
        if self._known(key) not in self._shared:
            raise NotFound(f"{key} is not set for the cluster.")
        await self._mirror.until(await self._store.txn([], [], [keys.config(key)]))
        return self._view(key)

    def _known(self, key: str) -> str:
        known = [name for name, _ in setting_fields(NAMES)]
        if key not in known:
            raise NotFound(f"{key}: unknown key{nearest(key, known)}")
        return key

    def _view(self, key: str) -> SettingView:
        section, _, name = key.rpartition(".")
        part = self.current().part(section)
        field = next(one for one in fields(part) if one.name == name)
        source: Any = self._config.sources.get(key, "default")
        return SettingView(
            key=key, value=_plain(getattr(part, name)), default=_plain(field_default(field)),
            source=source, help=field.metadata["help"], shared=field.metadata["shared"],
        )  # fmt: skip


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _usable(key: str, value: Any) -> bool:
    """A setting another version wrote must not keep this host from starting."""
    try:
        check_value(key, value, NAMES)
    except ConfigError as err:
        log.warning("shared setting ignored", extra={"key": key, "reason": err.message})
        return False
    return True
