# Items of a FETCH response, as bits. Python has the same numbers as ``fetch.Item``.
cdef enum:
    ITEM_UID = 1
    ITEM_FLAGS = 2
    ITEM_DATE = 4         # INTERNALDATE
    ITEM_SIZE = 8          # RFC822.SIZE
    ITEM_MODSEQ = 16
    ITEM_ENVELOPE = 32
    ITEM_STRUCTURE = 64    # BODYSTRUCTURE
    ITEM_FIELDS = 128      # header fields from the summary
    ITEM_SAVEDATE = 256
    ITEM_UIDONLY = 512     # no item: the response is a UIDFETCH (RFC 9586)
    ITEM_SUMMARY = 224     # those that need the message's summary: ENVELOPE, STRUCTURE, FIELDS
