#!/bin/sh
# Where tests without servers put their files: prints /dev/shm where it is a file system in memory with 2 GiB of room
# that programs can be run from, or else the usual place. Those tests write and sync tens of thousands of small files,
# and what is to be learnt from a real disk is learnt by tests/journey, tests/crash and tests/load, which use one.
room=$(df -Pk -t tmpfs /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
if [ "${room:-0}" -ge 2097152 ] && [ -w /dev/shm ] && ! grep -q '^[^ ]* /dev/shm [^ ]* [^ ]*noexec' /proc/mounts; then
  echo /dev/shm
else
  echo "${TMPDIR:-/tmp}"
fi
