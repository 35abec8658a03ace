"""A lean reader of GGUF headers: metadata and tensor table, without the vocabulary.

A header of a Qwen model is 6 MB, nearly all of it token strings that nobody here needs. Long arrays are walked over,
never built: they appear as ArrayInfo. Every length is checked against the file before it is believed, by the same
rules as llama.cpp (ggml/src/gguf.cpp, b10435), so that what passes here also loads there.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from zlib import crc32

from qwenops.errors import BadInput, NotAGGUF, NotAllowed
from qwenops.model.ggml_types import GGML_TYPES, REMOVED_TYPES
from qwenops.model.other_formats import what_else
from qwenops.model.string_run import RUN, run_of_short_strings
from qwenops.model.types import ArrayInfo, Header, Tensor
from qwenops.units import pad

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
KEPT_ELEMENTS = 1024
"""Arrays up to this length are read; longer ones (vocabularies) are only measured."""

MAX_HEADER_BYTES = 256 * 1024**2
MAX_KEYS = 65_536
MAX_TENSORS = 131_072
MAX_STRINGS = 4_194_304
MAX_DIMS = 4
MAX_TENSOR_NAME = 63
_READ_BYTES = 1024**2
_ROW_BYTES, _KEY_BYTES = 24, 13
"""The least that a row of the tensor table and a metadata key can take."""

_STRING, _ARRAY, _BOOL, _UINT32 = 8, 9, 7, 4
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_NO_FILES = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class NeedMore(Exception):
    """The prefix that was given ends inside the header; `at_least` is the length that would get further."""

    def __init__(self, at_least: int) -> None:
        super().__init__(f"the header needs at least {at_least} bytes")
        self.at_least = at_least


def read_header(path: Path | str) -> Header:
    """Read the header of one GGUF file, sizes in bytes.

    Raises NotAGGUF (with the byte and the value) when the file is none, is cut off or claims what cannot be,
    BadInput when there is no such file or it is a pipe or a device, NotAllowed when it may not be read.
    """
    path = Path(path)
    try:
        _check_regular(path)
        with path.expanduser().open("rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(0)
            return _Parser(bytearray(), file_bytes, path, _filler(file)).parse()
    except FileNotFoundError:
        from qwenops.model.nearby import files_like

        near = (f"{one}     (is there)" for one in files_like(path.expanduser()))
        raise BadInput(f"no such file: {path}", do=(*near, f"ls -l {_nearest_folder(path)}")) from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder, not a GGUF file", do=f"ls {path}/*.gguf") from None
    except PermissionError:
        raise NotAllowed(f"{path} cannot be read: permission denied", do=f"ls -l {path}") from None
    except (OSError, ValueError) as e:
        raise BadInput(f"{str(path)!r} cannot be read: {getattr(e, 'strerror', None) or e}") from None


def _check_regular(path: Path) -> None:
    """Refuse a pipe, socket or device before it is opened: opening a pipe that nobody writes to waits for ever."""
    mode = path.expanduser().stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = next((word for test, word in _NO_FILES if test(mode)), "no regular file")
        raise BadInput(f"{path} is {kind}, not a GGUF file", do="give the path of a file on a disk")


def _nearest_folder(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    return next((p for p in path.expanduser().parents if p.is_dir()), Path())


def parse_header(buffer: bytes | bytearray, file_bytes: int, path: Path) -> Header:
    """Parse a header from the first bytes of a file of `file_bytes` bytes, for files that are not here.

    Raises NeedMore when the prefix is too short to go on, NotAGGUF as read_header does.
    """
    return _Parser(bytearray(buffer), file_bytes, path, None).parse()


def read_through(fill: Callable[[bytearray, int], None], file_bytes: int, path: Path) -> tuple[Header, bytearray]:
    """Read a header through `fill`, which appends to the buffer until it has the length asked for, or gives up.

    For files that come over a wire: nothing is asked for that the header does not need. Returns the buffer too.
    """
    data = bytearray()
    return _Parser(data, file_bytes, path, fill).parse(), data


def _filler(file: BinaryIO) -> Callable[[bytearray, int], None]:
    def fill(data: bytearray, up_to: int) -> None:
        data += file.read(max(up_to - len(data), _READ_BYTES))

    return fill


class _Parser:
    """One pass over one header. `fill` appends to `data` from the file; without it a short prefix is NeedMore."""

    def __init__(
        self, data: bytearray, file_bytes: int, path: Path, fill: Callable[[bytearray, int], None] | None
    ) -> None:
        self.data = data
        self.file_bytes = file_bytes
        self.path = path
        self.fill = fill
        self.pos = 0
        self.doing = "the magic number"

    def parse(self) -> Header:
        version, tensor_count, key_count = self.preamble()
        metadata, types, keys_at = self.metadata(key_count)
        alignment = self.alignment(metadata, types)
        rows = self.tensor_rows(tensor_count)
        self.doing = "the start of the tensor data"
        data_offset = pad(self.pos, alignment) if rows else self.pos
        with memoryview(self.data) as whole:
            checksum = crc32(whole[: self.pos])
        return Header(
            path=self.path,
            version=version,
            metadata=metadata,
            tensors=self.placed(rows, alignment, data_offset),
            alignment=alignment,
            data_offset=data_offset,
            file_bytes=self.file_bytes,
            checksum=checksum,
            keys_at=keys_at,
        )

    # reading

    def need(self, n_bytes: int) -> int:
        """Make sure that `n_bytes` follow, move past them, and return where they begin."""
        start, end = self.pos, self.pos + n_bytes
        if end > len(self.data):
            if end > self.file_bytes:
                self.cut_off(end)
            if end > MAX_HEADER_BYTES:
                self.refuse(f"the header is longer than {MAX_HEADER_BYTES} bytes in {self.doing}")
            if self.fill is None:
                raise NeedMore(end)
            self.fill(self.data, end)
            if end > len(self.data):
                self.cut_off(end)
        self.pos = end
        return start

    def u32(self) -> int:
        return int(_U32.unpack_from(self.data, self.need(4))[0])

    def u64(self) -> int:
        return int(_U64.unpack_from(self.data, self.need(8))[0])

    def string(self) -> bytes:
        length = self.u64()
        start = self.need(length)
        return bytes(self.data[start : self.pos])

    # sections

    def preamble(self) -> tuple[int, int, int]:
        if self.file_bytes == 0:
            self.refuse("the file is empty")
        start = self.need(4)
        magic = bytes(self.data[start:4])
        if magic != MAGIC:
            self.not_gguf(magic)
        self.doing = "the version"
        version = self.u32()
        if version & 0xFFFF == 0 and version:
            self.refuse(
                "it is a big-endian GGUF, which needs a big-endian machine",
                do="download the little-endian file of the same model",
            )
        if version not in VERSIONS:
            self.refuse(
                f"GGUF version {version} is not one of {VERSIONS[0]} and {VERSIONS[1]}",
                do="convert the model again with a current llama.cpp"
                if version < VERSIONS[0]
                else "update qwenops, or download the file again",
            )
        self.doing = "the counts"
        tensor_count, key_count = self.u64(), self.u64()
        if tensor_count * _ROW_BYTES + key_count * _KEY_BYTES > self.file_bytes:
            self.refuse(f"it claims {tensor_count} tensors and {key_count} metadata keys in {self.file_bytes} bytes")
        if tensor_count > MAX_TENSORS:
            self.refuse(f"it claims {tensor_count} tensors; no model has more than {MAX_TENSORS}")
        if key_count > MAX_KEYS:
            self.refuse(f"it claims {key_count} metadata keys; no model has more than {MAX_KEYS}")
        return version, tensor_count, key_count

    def metadata(self, count: int) -> tuple[dict[str, Any], dict[str, int], dict[str, tuple[int, int]]]:
        values: dict[str, Any] = {}
        types: dict[str, int] = {}
        places: dict[str, tuple[int, int]] = {}
        for index in range(count):
            self.doing = f"metadata key {index + 1} of {count}"
            at = self.pos
            raw = self.string()
            if not raw:
                self.refuse(f"metadata key {index + 1} of {count} at byte {at} is empty")
            key = self.text(raw, f"metadata key {index + 1} of {count} at byte {at}")
            if key in values:
                self.refuse(f"metadata key {key!r} appears twice")
            self.doing = f"the value of {key}"
            types[key] = self.u32()
            values[key] = self.value(key, types[key])
            places[key] = (at, self.pos)
        return values, types, places

    def value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self.string().decode("utf-8", "replace")
        if kind == _ARRAY:
            return self.array(key)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            self.refuse(f"the value of {key} has the unknown type {kind}")
        return scalar.unpack_from(self.data, self.need(scalar.size))[0]

    def array(self, key: str) -> list[Any] | ArrayInfo:
        kind, length = self.u32(), self.u64()
        if kind == _ARRAY:
            self.refuse(f"{key} is an array of arrays, which no GGUF reader takes")
        offset = self.pos
        if kind == _STRING:
            if length > MAX_STRINGS or offset + 8 * length > self.file_bytes:
                self.refuse(f"{key} claims {length} strings, more than the file can hold")
            if length > KEPT_ELEMENTS:
                self.skip_strings(length)
                return ArrayInfo(kind, length, offset)
            return [self.string().decode("utf-8", "replace") for _ in range(length)]
        scalar = _SCALARS.get(kind)
        if scalar is None:
            self.refuse(f"{key} is an array of the unknown type {kind}")
        if offset + scalar.size * length > self.file_bytes:
            self.refuse(f"{key} claims {length} values, more than the file can hold")
        start = self.need(scalar.size * length)
        if length > KEPT_ELEMENTS:
            return ArrayInfo(kind, length, offset)
        return list(struct.unpack_from(f"<{length}{scalar.format[-1]}", self.data, start))

    def skip_strings(self, count: int) -> None:
        """Move past `count` strings, looking at their lengths only."""
        run, length_at = run_of_short_strings().match, _U64.unpack_from
        data, pos, left = self.data, self.pos, count
        while left:
            while left >= RUN and (matched := run(data, pos)):
                pos = matched.end()
                left -= RUN
            # a long string, an empty one, the rest of the count or the end of the buffer: one at a time
            end = pos
            try:
                for _ in range(min(left, RUN)):
                    end = pos + 8 + length_at(data, pos)[0]
                    if end > len(data):
                        break
                    pos = end
                    left -= 1
            except struct.error:
                end = pos + 8
            self.pos = pos
            if end > pos:
                self.need(end - pos)
                self.pos = pos

    def alignment(self, metadata: dict[str, Any], types: dict[str, int]) -> int:
        key = "general.alignment"
        if key not in metadata:
            return DEFAULT_ALIGNMENT
        value = metadata[key]
        if types[key] != _UINT32:
            self.refuse(f"{key} must be a 32-bit number, but has type {types[key]}")
        if value == 0 or value & (value - 1):
            self.refuse(f"{key} is {value}, which is not a power of two")
        return int(value)

    def tensor_rows(self, count: int) -> list[tuple[str, tuple[int, ...], int, int]]:
        rows: list[tuple[str, tuple[int, ...], int, int]] = []
        seen: set[str] = set()
        for index in range(count):
            self.doing = f"row {index + 1} of {count} of the tensor table"
            raw = self.string()
            if len(raw) > MAX_TENSOR_NAME:
                self.refuse(f"the name of tensor {index + 1} has {len(raw)} bytes, more than {MAX_TENSOR_NAME}")
            name = self.text(raw, f"the name of tensor {index + 1}")
            if not name:
                self.refuse(f"the name of tensor {index + 1} is empty")
            if name in seen:
                self.refuse(f"tensor {name!r} appears twice")
            seen.add(name)
            dims = self.u32()
            if dims > MAX_DIMS:
                self.refuse(f"tensor {name} has {dims} dimensions, more than {MAX_DIMS}")
            shape = struct.unpack_from(f"<{dims}Q", self.data, self.need(8 * dims))
            rows.append((name, shape, self.u32(), self.u64()))
        return rows

    def placed(
        self, rows: list[tuple[str, tuple[int, ...], int, int]], alignment: int, data_offset: int
    ) -> tuple[Tensor, ...]:
        """The tensor table with sizes, each tensor checked to lie where the one before it ends."""
        tensors: list[Tensor] = []
        expected = end = 0
        last = ""
        for name, shape, kind, offset in rows:
            size = self.size_of(name, shape, kind)
            if offset != expected:
                self.refuse(f"tensor {name} lies at offset {offset}, where {expected} was expected")
            end, last = offset + size, name
            expected = pad(end, alignment)
            tensors.append(Tensor(name, shape, kind, offset, size))
        missing = data_offset + end - self.file_bytes
        if rows and missing > 0:
            self.refuse(
                f"it is cut off: tensor {last} ends at byte {data_offset + end}, the file has {self.file_bytes} "
                f"({missing} bytes are missing)",
                do="download the file again (a download that resumes will fetch only what is missing)",
            )
        return tuple(tensors)

    def size_of(self, name: str, shape: tuple[int, ...], kind: int) -> int:
        known = GGML_TYPES.get(kind)
        if known is None and kind in REMOVED_TYPES:
            self.refuse(
                f"tensor {name} has type {REMOVED_TYPES[kind]}, which llama.cpp no longer reads",
                do="take the Q4_0 or IQ4_NL file of the model; llama.cpp repacks it while loading",
            )
        if known is None:
            self.refuse(f"tensor {name} has the unknown type {kind}", do="update qwenops, or download the file again")
        elements = 1
        for dim in shape:
            elements *= dim
        if elements >= 2**63 or any(dim >= 2**63 for dim in shape):
            self.refuse(f"tensor {name} claims the shape {list(shape)}, more elements than can be counted")
        row = shape[0] if shape else 1
        if row % known.block:
            self.refuse(f"tensor {name} has rows of {row}, not a multiple of the {known.name} block of {known.block}")
        return elements // known.block * known.bytes

    # refusing

    def text(self, raw: bytes, what: str) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.refuse(f"{what} is not text: {raw[:24]!r}")

    def refuse(self, why: str, do: str | tuple[str, ...] = "download the file again") -> NoReturn:
        raise NotAGGUF(f"{self.path} cannot be used: {why}", do=do)

    def cut_off(self, end: int) -> NoReturn:
        self.refuse(
            f"{self.doing} would end at byte {end}, but the file has {self.file_bytes}: it is cut off or damaged"
        )

    def not_gguf(self, magic: bytes) -> NoReturn:
        with suppress(NotAGGUF):
            self.need(min(60, self.file_bytes - 4))
        what, do = what_else(bytes(self.data[:64]))
        raise NotAGGUF(f"{self.path} is not a GGUF: it {what or f'begins with {magic!r}, not {MAGIC!r}'}", do=do)
