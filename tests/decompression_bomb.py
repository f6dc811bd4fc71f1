"""A small file that grows large."""

import struct
import zlib


def decompression_bomb(width: int, height: int) -> bytes:
  """Returns a whole PNG of black pixels, of a bit each; a thousandth of what it decodes to."""

  def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum

  row = bytes(1 + -(-width // 8))
  compressor = zlib.compressobj(9)
  pixels = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
  header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
  )
