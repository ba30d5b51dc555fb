"""Tests of fastmail.migrate."""
