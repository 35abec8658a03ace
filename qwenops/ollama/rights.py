"""Whether the server's user can read a file. A hard link carries the file's own owner and mode with it.

Folders on the way do not matter: the server reaches the blob through its own store.
"""

from __future__ import annotations

import os
import stat as modes
import struct
from dataclasses import dataclass
from pathlib import Path

_ACL_READ = 4
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 0x02, 0x04, 0x08, 0x10, 0x20


@dataclass(frozen=True)
class Reader:
    """Who will read the blob: the user that the server runs as. `uid` 0 reads everything."""

    name: str
    uid: int
    groups: frozenset[int]


def reader_named(user: str | None, store: Path) -> Reader | None:
    """The server's user; without a name, the owner of the store's folder. None where there are no such users."""
    try:
        import pwd
    except ImportError:  # Windows has neither; a link there carries an ACL that we do not judge
        return None
    try:
        entry = pwd.getpwnam(user) if user else pwd.getpwuid(store.stat().st_uid)
    except (KeyError, OSError):
        return None
    return Reader(entry.pw_name, entry.pw_uid, frozenset({*os.getgrouplist(entry.pw_name, entry.pw_gid), entry.pw_gid}))


def may_read(path: Path, reader: Reader) -> bool:
    """Whether the mode bits, or a POSIX access list where the file has one, let the reader read the file."""
    status = path.stat()
    if reader.uid == 0:
        return True
    if reader.uid == status.st_uid:
        return bool(status.st_mode & modes.S_IRUSR)
    entries = _access_list(path)
    if entries:
        return _acl_lets(entries, reader, status.st_gid)
    if status.st_gid in reader.groups:
        return bool(status.st_mode & modes.S_IRGRP)
    return bool(status.st_mode & modes.S_IROTH)


def _access_list(path: Path) -> tuple[tuple[int, int, int], ...]:
    """(tag, permissions, id) of each entry of the file's POSIX access list; empty without one."""
    try:
        raw = os.getxattr(path, "system.posix_acl_access")
    except (OSError, AttributeError):
        return ()
    # Layout: a 4-byte version, then 8 bytes an entry (linux/posix_acl_xattr.h).
    return tuple(struct.iter_unpack("<HHI", raw[4 : 4 + (len(raw) - 4) // 8 * 8]))


def _acl_lets(entries: tuple[tuple[int, int, int], ...], reader: Reader, owning_group: int) -> bool:
    """The algorithm of acl(5): a named user, then any matching group, both under the mask, then the others."""
    mask = next((permissions for tag, permissions, _ in entries if tag == _ACL_MASK), _ACL_READ)
    for tag, permissions, who in entries:
        if tag == _ACL_USER and who == reader.uid:
            return bool(permissions & mask & _ACL_READ)
    of_groups = [
        permissions
        for tag, permissions, who in entries
        if (tag == _ACL_GROUP and who in reader.groups) or (tag == _ACL_GROUP_OBJ and owning_group in reader.groups)
    ]
    if of_groups:
        return any(permissions & mask & _ACL_READ for permissions in of_groups)
    return any(permissions & _ACL_READ for tag, permissions, _ in entries if tag == _ACL_OTHER)
