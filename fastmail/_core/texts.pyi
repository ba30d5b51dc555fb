from array import array

def find(ends: array[int], data: bytes, needle: bytes, with_head: bool) -> list[int]:
    """Names of the texts in ``data`` that contain ``needle``, in order.

    ``ends``: for each text (name, end of its head, end) as u32, offsets into ``data``, ascending. Without
    ``with_head`` only what is behind its head counts. ValueError when the ends do not fit.
    """
