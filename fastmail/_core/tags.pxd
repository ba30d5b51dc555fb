# Signatures taken apart, for compiled readers; see tags.pyx.
#   parts        what ``signature`` returns
#   cut          what ``without`` returns
#   from_base64  the octets of base64 (RFC 4648 4) in its one usual form, four characters at a time; None for any other
cdef tuple parts(bytes data)
cdef bytes cut(bytes data, bytes name)
cdef bytes from_base64(bytes text)
